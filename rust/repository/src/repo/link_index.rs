//! What files a link has, and where their bytes are: the object `links/ID/index`.
//!
//! It is an object in chunks, and holds the Zstandard frame of sealed JSON. The bytes of the files lie in packs, each file in
//! one pack: many small files make few objects, and nobody sees from outside how many there are.

use super::{
    ObjectId, RepoError,
    config::{FORMAT, parse},
    open::Repository,
};
use model::LinkId;
use serde::{Deserialize, Serialize};
use std::{collections::HashSet, io::Read as _};
use store::{StoreError, is_plain};

/// No index is longer, in its frame or out of it: a link with 4 million files has as much.
pub(crate) const LONGEST: u64 = 1 << 30;

/// The object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LinkIndex {
    pub(crate) format: u32,
    /// The link's own id.
    pub(crate) link: LinkId,
    /// The SHA-256 of its manifest.
    pub(crate) manifest_sha256: String,
    pub(crate) packs: Vec<Pack>,
    pub(crate) files: Vec<PackedFile>,
}

/// An object with bytes of files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Pack {
    pub(crate) id: ObjectId,
    /// How many bytes it holds.
    pub(crate) bytes: u64,
}

/// A file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PackedFile {
    /// Its name in the link.
    pub(crate) path: String,
    /// Which of the packs it is in, from 0 on.
    pub(crate) pack: usize,
    /// Where in the pack it begins.
    pub(crate) offset: u64,
    pub(crate) bytes: u64,
}

/// The name of a link's index.
pub(crate) fn index_name(link: &ObjectId) -> String {
    format!("links/{link}/index")
}

/// The name of a pack.
pub(crate) fn pack_name(link: &ObjectId, pack: &ObjectId) -> String {
    format!("links/{link}/{pack}")
}

impl LinkIndex {
    pub(crate) fn new(link: LinkId, manifest_sha256: String) -> Self {
        Self {
            format: FORMAT,
            link,
            manifest_sha256,
            packs: Vec::new(),
            files: Vec::new(),
        }
    }

    /// Reads the index of a link, and refuses one that contradicts itself.
    pub(crate) fn load(repository: &Repository, link: &ObjectId) -> Result<Self, RepoError> {
        let store = &*repository.store;
        let name = index_name(link);
        let frame = repository.cipher.get(store, &name, LONGEST)?;
        let damaged = |problem: String| RepoError::Damaged {
            place: store.place(&name),
            problem,
        };
        let mut bytes = Vec::new();
        let read = zstd::Decoder::with_buffer(frame.as_slice())
            .and_then(|decoder| decoder.take(LONGEST + 1).read_to_end(&mut bytes));
        match read {
            Ok(read) if read as u64 <= LONGEST => {}
            Ok(_) => return Err(damaged("it holds more than it can".to_owned())),
            Err(error) => return Err(damaged(error.to_string())),
        }
        let index: Self = parse(store, &name, &bytes)?;
        let mut names = HashSet::new();
        for file in &index.files {
            let pack = index.packs.get(file.pack);
            let fits = |pack: &Pack| {
                file.offset
                    .checked_add(file.bytes)
                    .is_some_and(|end| end <= pack.bytes)
            };
            if !is_plain(&file.path) || !names.insert(&file.path) || !pack.is_some_and(fits) {
                return Err(damaged(format!("its file {:?} can't be", file.path)));
            }
        }
        Ok(index)
    }

    /// As the bytes of the object.
    pub(crate) fn to_bytes(&self) -> Result<Vec<u8>, RepoError> {
        let json = super::config::to_bytes(self)?;
        let frame = zstd::encode_all(json.as_slice(), 3);
        Ok(frame.map_err(StoreError::io("the index of a link"))?)
    }
}
