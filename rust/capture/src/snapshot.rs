//! A consistent view of a vnode's committed files, taken from a directory that a server may be writing to.
//!
//! A commit ends with two renames: `vnode_tmp.json` → `vnode.json`, then `current.c.json` → `current.json`.
//! So `vnode.json` is read first. If it is the old one, any later `current.json` holds at least as much. If it
//! is the new one, the state is complete once `current.c.json` is gone. A merge renames `current.m.json` over
//! `current.json` and deletes the files it replaced, so all files are opened at once and an open that finds
//! none starts over. A server that was killed between the two renames of a commit does the second one when it starts again;
//! where none runs, `current.c.json` is read in place of `current.json`. (Observed on server 3.3.7.)

use crate::{
    CaptureError, VnodeDir,
    data_dirs::{exists, is_in_use, read},
    retry::{ATTEMPTS, pause},
};
use model::Version;
use std::{
    collections::HashMap,
    fs::File,
    path::{Path, PathBuf},
};
use tdfiles::{
    current_json::{CurrentJson, FileEntry, FileSet},
    tsdb::PagedFile,
    vnode_json::VnodeJson,
};

/// A vnode's state: what is committed, in which files, with the files that were asked for held open.
#[derive(Debug)]
pub struct Snapshot {
    /// Configuration and committed version.
    pub vnode: VnodeJson,
    /// The files that hold everything up to the committed version.
    pub current: CurrentJson,
    opened: HashMap<String, OpenedFile>,
}

#[derive(Debug)]
struct OpenedFile {
    path: PathBuf,
    file: File,
}

impl Snapshot {
    /// Takes the view and opens the files that can hold something later than `since`.
    pub fn open(dir: &VnodeDir, since: Version) -> Result<Self, CaptureError> {
        for attempt in 0..ATTEMPTS {
            match Self::try_open(dir, since) {
                Ok(Some(snapshot)) => return Ok(snapshot),
                Ok(None) => {}
                Err(e) if e.is_not_found() && attempt + 1 < ATTEMPTS => {
                    // A directory without a current.json is not one that a server is about to fill.
                    if attempt > 10 && !exists(&dir.primary)? {
                        return Err(e);
                    }
                }
                Err(e) => return Err(e),
            }
            pause(attempt);
        }
        let cut_off = dir.primary.join("tsdb").join("current.c.json");
        Err(if exists(&cut_off)? {
            CaptureError::CommitCutOff { path: cut_off }
        } else {
            CaptureError::NeverStable {
                path: dir.primary.clone(),
                attempts: ATTEMPTS,
            }
        })
    }

    /// One attempt; `None` while a commit is between its two renames, or a server starts.
    fn try_open(dir: &VnodeDir, since: Version) -> Result<Option<Self>, CaptureError> {
        let vnode = dir.config()?;
        let tsdb = dir.primary.join("tsdb");
        let commit_ending = exists(&tsdb.join("current.c.json"))?;
        let half_done = commit_ending && !exists(&dir.primary.join("vnode_tmp.json"))?;
        if half_done && is_in_use(dir.data_dir())? {
            return Ok(None);
        }
        let path = tsdb.join(if half_done {
            "current.c.json"
        } else {
            "current.json"
        });
        let current = CurrentJson::parse(&read(&path)?).map_err(CaptureError::format(&path))?;
        let mut opened = HashMap::new();
        if !vnode.tsdb_encrypted {
            for entry in current.file_sets.iter().flat_map(|set| wanted(set, since)) {
                let name = entry.name(vnode.vgroup);
                let file = open_in(&dir.tsdb, &name, entry, vnode.page_size)?;
                opened.insert(name, file);
            }
        }
        // A server that was started meanwhile ends the commit, and removes what it replaces.
        if half_done && (is_in_use(dir.data_dir())? || !exists(&path)?) {
            return Ok(None);
        }
        Ok(Some(Self {
            vnode,
            current,
            opened,
        }))
    }

    /// Whether the files hold nothing later than the committed version. A commit renames `vnode.json` before
    /// `current.json`: so if `vnode.json` still says what it said before `current.json` was read, no later commit is in
    /// it.
    pub(crate) fn is_exact(&self, dir: &VnodeDir) -> Result<bool, CaptureError> {
        Ok(dir.config()?.committed == self.vnode.committed)
    }

    /// An opened file and its path; `None` if it holds nothing later than the snapshot's start.
    pub(crate) fn paged(
        &self,
        entry: &FileEntry,
    ) -> Result<Option<(PagedFile<&File>, &Path)>, CaptureError> {
        let Some(opened) = self.opened.get(&entry.name(self.vnode.vgroup)) else {
            return Ok(None);
        };
        let paged = PagedFile::new(&opened.file, self.vnode.page_size, entry.size)
            .map_err(CaptureError::format(&opened.path))?;
        Ok(Some((paged, &opened.path)))
    }
}

/// The files of a set that can hold something later than `since`. `.data` goes with its `.head`; files in
/// shared storage are not here to be opened.
fn wanted(set: &FileSet, since: Version) -> impl Iterator<Item = &FileEntry> {
    let later = move |entry: &FileEntry| entry.max_version.is_none_or(|max| max > since);
    let merged = set
        .merged
        .as_ref()
        .filter(|(head, data)| later(head) || later(data));
    let data = merged
        .map(|(_, data)| data)
        .filter(|data| !data.in_shared_storage());
    let rest = set
        .tomb
        .iter()
        .chain(&set.stt)
        .filter(move |entry| later(entry));
    merged
        .map(|(head, _)| head)
        .into_iter()
        .chain(data)
        .chain(rest)
}

/// Opens a file on whichever tier has it whole. While the server moves a file between tiers, two have it and
/// one of them may not be complete yet; both have the same name and, once complete, the same bytes.
fn open_in(
    dirs: &[PathBuf],
    name: &str,
    entry: &FileEntry,
    page_size: usize,
) -> Result<OpenedFile, CaptureError> {
    let mut refused = None;
    for dir in dirs {
        let path = dir.join(name);
        match File::open(&path).map_err(CaptureError::io(&path)) {
            Ok(file) => match PagedFile::new(&file, page_size, entry.size) {
                Ok(_) => return Ok(OpenedFile { path, file }),
                Err(e) => refused = Some(CaptureError::format(path)(e)),
            },
            Err(e) if e.is_not_found() && refused.is_some() => {}
            Err(e) => refused = Some(e),
        }
    }
    Err(refused.unwrap_or_else(|| {
        CaptureError::io(PathBuf::from(name))(std::io::ErrorKind::NotFound.into())
    }))
}
