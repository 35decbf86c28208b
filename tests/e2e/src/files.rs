//! The files of a directory.

use std::{
    fs,
    path::{Path, PathBuf},
    time::SystemTime,
};

/// All files below a directory, sorted.
pub fn files_below(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let mut files: Vec<PathBuf> = entries
        .flat_map(|entry| match entry.path() {
            path if path.is_dir() => files_below(&path),
            path => vec![path],
        })
        .collect();
    files.sort();
    files
}

/// The bytes of all files below a directory.
pub fn bytes_below(dir: &Path) -> u64 {
    let metadata = files_below(dir)
        .into_iter()
        .filter_map(|file| fs::metadata(file).ok());
    metadata.map(|data| data.len()).sum()
}

/// When a file below a directory was last written.
pub fn newest_below(dir: &Path) -> Option<SystemTime> {
    let metadata = files_below(dir)
        .into_iter()
        .filter_map(|file| fs::metadata(file).ok());
    metadata.filter_map(|data| data.modified().ok()).max()
}
