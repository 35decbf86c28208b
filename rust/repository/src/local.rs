//! Single files that an operator names: checkpoints and lists of blocks.

use plan::{
    checkpoint::{Checkpoint, CheckpointError},
    report::{Blocks, BlocksError},
};
use std::{fs, io, path::Path};
use store::{StoreError, atomic_file};

/// A file that can't be used.
#[derive(Debug, thiserror::Error)]
pub enum LocalFileError {
    /// It can't be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// It is no checkpoint.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// It is no list of blocks.
    #[error(transparent)]
    Blocks(#[from] BlocksError),
}

fn read(path: &Path) -> Result<(Vec<u8>, String), StoreError> {
    let place = path.display().to_string();
    let bytes = fs::read(path).map_err(StoreError::io(place.clone()))?;
    Ok((bytes, place))
}

/// Reads a checkpoint.
///
/// # Errors
/// It can't be read, or is none.
pub fn load_checkpoint(path: &Path) -> Result<Checkpoint, LocalFileError> {
    let (bytes, place) = read(path)?;
    Ok(Checkpoint::parse(&bytes, &place)?)
}

/// Writes a checkpoint, whole or not at all.
///
/// # Errors
/// It can't be written.
pub fn save_checkpoint(checkpoint: &Checkpoint, path: &Path) -> Result<(), StoreError> {
    let bytes = checkpoint
        .to_bytes()
        .map_err(|error| StoreError::io(path.display().to_string())(io::Error::from(error)))?;
    atomic_file::write(path, &bytes)
}

/// Reads a list of blocks that `--detect --output` wrote.
///
/// # Errors
/// It can't be read, or is none.
pub fn load_blocks(path: &Path) -> Result<Blocks, LocalFileError> {
    let (bytes, place) = read(path)?;
    Ok(Blocks::parse(&bytes, &place)?)
}
