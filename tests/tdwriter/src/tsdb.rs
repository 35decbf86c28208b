//! TSDB files of one file set: head, data, sma, stt and tomb, and the `current.json` that names them.
//!
//! Offsets and sizes in these files are logical: they do not count the checksum at the end of each page.

mod block;
mod current;
mod data;
mod format;
mod index;
mod pages;
mod stt;
mod tomb;

pub use block::{Block, encode_block};
pub use current::{CurrentJson, FileEntry, FileSet, Release, SttLevel};
pub use data::{DataSetWriter, DataSource, write_data_file_set};
pub use format::Format;
pub use index::{BrinRecord, Tomb};
pub use pages::{PageWriter, logical_bytes};
pub use stt::{SttWriter, write_stt};
pub use tomb::write_tomb;

use std::path::{Path, PathBuf};

use crate::row::Row;

/// A row as it lies in a TSDB file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoredRow {
    /// Super table, or 0 for a normal table.
    pub suid: i64,
    /// Table.
    pub uid: i64,
    /// WAL index of the message that wrote it.
    pub version: i64,
    /// The row itself.
    pub row: Row,
}

/// Where the files of one edit of one file set go.
#[derive(Clone, Debug)]
pub struct Place {
    /// The vnode's `tsdb` directory.
    pub dir: PathBuf,
    /// Vgroup id, part of the file names.
    pub vg: i32,
    /// File set.
    pub fid: i32,
    /// Number of the edit that makes the files.
    pub cid: i64,
}

impl Place {
    /// A place in `dir`.
    pub fn new(dir: &Path, vg: i32, fid: i32, cid: i64) -> Self {
        Self {
            dir: dir.into(),
            vg,
            fid,
            cid,
        }
    }

    /// Path of the file with this extension.
    pub fn path(&self, ext: &str) -> PathBuf {
        self.dir
            .join(format!("v{}f{}ver{}.{ext}", self.vg, self.fid, self.cid))
    }
}
