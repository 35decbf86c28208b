//! A link on its way into a repository: its files, one after the other, in packs.

use super::{
    ObjectId, RepoError,
    chunks::ChunkWriter,
    link_index::{LinkIndex, Pack, PackedFile, index_name, pack_name},
    open::Repository,
};
use model::{LinkId, Progress};
use sha2::{Digest as _, Sha256};
use std::io::Read;
use store::{FileEntry, StoreError, hex};

/// A pack that holds so much takes no further file.
const FULL: u64 = 64 << 20;

/// Until [`Self::finish`] nothing refers to what is written, and `prune` removes it after its grace period.
#[derive(Debug)]
pub(crate) struct LinkWriter<'r> {
    repository: &'r Repository,
    id: ObjectId,
    index: LinkIndex,
    pack: Option<(ObjectId, ChunkWriter, u64)>,
}

impl<'r> LinkWriter<'r> {
    pub(crate) fn new(repository: &'r Repository, link: LinkId, manifest_sha256: String) -> Self {
        Self {
            repository,
            id: ObjectId::random(),
            index: LinkIndex::new(link, manifest_sha256),
            pack: None,
        }
    }

    /// Adds a file, which must be as its entry says.
    pub(crate) fn add(
        &mut self,
        entry: &FileEntry,
        place: &str,
        from: &mut dyn Read,
        progress: &dyn Progress,
    ) -> Result<(), RepoError> {
        if self
            .pack
            .as_ref()
            .is_some_and(|(_, _, bytes)| *bytes >= FULL)
        {
            self.end_pack()?;
        }
        if self.pack.is_none() {
            let id = ObjectId::random();
            let name = pack_name(&self.id, &id);
            let writer = self
                .repository
                .cipher
                .writer(&*self.repository.store, &name)?;
            self.pack = Some((id, writer, 0));
        }
        let pack = self.index.packs.len();
        let Some((_, writer, written)) = &mut self.pack else {
            return Ok(());
        };
        let offset = *written;
        let mut hash = Sha256::new();
        let mut buffer = vec![0; 1 << 16];
        loop {
            progress.go_on()?;
            let read = from.read(&mut buffer).map_err(StoreError::io(place))?;
            let Some(bytes) = buffer.get(..read).filter(|bytes| !bytes.is_empty()) else {
                break;
            };
            hash.update(bytes);
            writer.write(bytes)?;
            *written += read as u64;
            progress.advance(read as u64, 0);
        }
        let bytes = *written - offset;
        if bytes != entry.bytes || hex(&hash.finalize()) != entry.sha256 {
            return Err(StoreError::Differs {
                place: place.to_owned(),
                problem: "it is not what the manifest says".to_owned(),
            }
            .into());
        }
        self.index.files.push(PackedFile {
            path: entry.path.clone(),
            pack,
            offset,
            bytes,
        });
        Ok(())
    }

    fn end_pack(&mut self) -> Result<(), RepoError> {
        let Some((id, writer, bytes)) = self.pack.take() else {
            return Ok(());
        };
        writer.finish()?;
        self.index.packs.push(Pack { id, bytes });
        Ok(())
    }

    /// Writes the index; returns the link's name in the repository, and how many bytes its objects hold.
    pub(crate) fn finish(mut self) -> Result<(ObjectId, u64), RepoError> {
        self.end_pack()?;
        let bytes = self.index.packs.iter().map(|pack| pack.bytes).sum();
        let name = index_name(&self.id);
        let mut writer = self
            .repository
            .cipher
            .writer(&*self.repository.store, &name)?;
        writer.write(&self.index.to_bytes()?)?;
        writer.finish()?;
        Ok((self.id, bytes))
    }

    /// Whether a link's index and all of its packs are there.
    pub(crate) fn is_there(repository: &Repository, link: &ObjectId) -> Result<bool, RepoError> {
        let store = &*repository.store;
        if !store.holds(&index_name(link))? {
            return Ok(false);
        }
        for pack in &LinkIndex::load(repository, link)?.packs {
            if !store.holds(&pack_name(link, &pack.id))? {
                return Ok(false);
            }
        }
        Ok(true)
    }
}
