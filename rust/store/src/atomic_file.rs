//! Writing a file so that it is there whole or not at all: temporary name, fsync, rename, directory fsync. What a
//! symbolic link names is written, and the link stays; a device or pipe is written to and never replaced.

use crate::StoreError;
use std::{
    fs::{DirBuilder, File, OpenOptions, Permissions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt as _, PermissionsExt},
    path::Path,
};
use tempfile::NamedTempFile;

/// Writes `bytes` to `path`, replacing what is there. What stood there before still does if this fails, unless only the
/// last step failed, which makes the new name durable.
pub fn write(path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
    // As any other program's file: the umask decides who may read it.
    write_with_mode(path, bytes, 0o666)
}

/// As [`write`], with a mode for the file, from which the umask takes.
pub(crate) fn write_with_mode(path: &Path, bytes: &[u8], mode: u32) -> Result<(), StoreError> {
    try_write(path, bytes, mode).map_err(|source| StoreError::Write {
        place: path.display().to_string(),
        source,
    })
}

/// Makes a directory and those above it that are missing, for their owner alone.
pub(crate) fn make_directories(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

fn try_write(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let resolved = path.canonicalize();
    let path = resolved.as_deref().unwrap_or(path);
    if is_device(path) {
        return OpenOptions::new().write(true).open(path)?.write_all(bytes);
    }
    let mut file = temporary(path, mode)?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    file.persist(path).map_err(|e| e.error)?;
    File::open(directory(path))?.sync_all()
}

/// A file beside the one at `path`, which is to get its name.
pub(crate) fn temporary(path: &Path, mode: u32) -> io::Result<NamedTempFile> {
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    let mut prefix = name.to_os_string();
    prefix.push(".");
    tempfile::Builder::new()
        .prefix(&prefix)
        .suffix(".tmp")
        .permissions(Permissions::from_mode(mode))
        .tempfile_in(directory(path))
}

/// Writes `bytes` to `path`, where nothing may be yet.
///
/// # Errors
/// Something is there, or it can't be written.
pub(crate) fn write_new(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let mut file = temporary(path, mode)?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    file.persist_noclobber(path).map_err(|e| e.error)?;
    File::open(directory(path))?.sync_all()
}

/// Whether something is there that is neither a file nor a directory.
fn is_device(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|found| !found.is_file() && !found.is_dir())
}

/// The directory that a file is in.
pub fn directory(path: &Path) -> &Path {
    match path.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => dir,
        _ => Path::new("."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_whole_and_nothing_else_is_left_behind() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f.json");
        write(&path, b"old").unwrap();
        write(&path, b"new").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"new");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
        let beside = File::create(dir.path().join("beside"))
            .unwrap()
            .metadata()
            .unwrap();
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(
            mode,
            beside.permissions().mode(),
            "as readable as any new file"
        );
    }

    #[test]
    fn a_device_and_a_link_stay_what_they_are() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let is_link = |name: &str| std::fs::symlink_metadata(at(name)).unwrap().is_symlink();
        std::os::unix::fs::symlink("/dev/null", at("null")).unwrap();
        write(&at("null"), b"x").unwrap();
        assert!(is_link("null"));
        std::fs::write(at("file"), b"old").unwrap();
        std::os::unix::fs::symlink(at("file"), at("link")).unwrap();
        write(&at("link"), b"new").unwrap();
        assert!(is_link("link"));
        assert_eq!(std::fs::read(at("file")).unwrap(), b"new");
        let made = std::process::Command::new("mkfifo")
            .arg(at("pipe"))
            .status();
        assert!(made.unwrap().success());
        let reader = std::thread::spawn({
            let pipe = at("pipe");
            move || std::fs::read(pipe).unwrap()
        });
        write(&at("pipe"), b"x").unwrap();
        assert_eq!(reader.join().unwrap(), b"x");
    }

    #[test]
    fn a_path_that_can_not_be_written_is_named() {
        let error = write(Path::new("/nonexistent/dir/f.json"), b"x").unwrap_err();
        assert!(
            error.to_string().contains("/nonexistent/dir/f.json"),
            "{error}"
        );
    }
}
