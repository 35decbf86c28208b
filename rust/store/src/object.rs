//! The seam between what we write and where it is kept.

use crate::StoreError;
use std::{
    fmt::Debug,
    io::{Read, Write},
    ops::Range,
    path::{Component, Path},
};

/// A place that holds objects, each under a name with slashes.
///
/// Names are relative and plain: [`is_plain`] says which ones are. Every other name is refused with
/// [`StoreError::Outside`].
pub trait Store: Debug + Send + Sync {
    /// Where an object is, for messages; the place itself for an empty name.
    fn place(&self, name: &str) -> String;

    /// Reads an object from its beginning.
    ///
    /// # Errors
    /// There is none, or it can't be opened.
    fn open(&self, name: &str) -> Result<Box<dyn Read + Send>, StoreError>;

    /// Reads these bytes of an object, all of them.
    ///
    /// # Errors
    /// There is none, it has fewer bytes, or it can't be read.
    fn get_range(&self, name: &str, range: Range<u64>) -> Result<Vec<u8>, StoreError>;

    /// How many bytes an object has.
    ///
    /// # Errors
    /// There is none, or it can't be looked at.
    fn length(&self, name: &str) -> Result<u64, StoreError>;

    /// The names of all objects, in no order.
    ///
    /// # Errors
    /// The place can't be listed.
    fn names(&self) -> Result<Vec<String>, StoreError>;

    /// Creates an object. It is whole and durable only once whoever holds the place says so.
    ///
    /// # Errors
    /// There is one of this name already, or it can't be created.
    fn create(&self, name: &str) -> Result<Box<dyn Write + Send>, StoreError>;

    /// Removes an object. One that is not there is no error.
    ///
    /// # Errors
    /// It can't be removed.
    fn remove(&self, name: &str) -> Result<(), StoreError>;

    /// Writes an object so that it is there whole and durable, or not at all.
    ///
    /// # Errors
    /// It can't be written. What stood under the name before still does, unless only the last step failed, which makes
    /// the new one durable.
    fn put(&self, name: &str, bytes: &[u8]) -> Result<(), StoreError>;

    /// Reads an object whole.
    ///
    /// # Errors
    /// There is none, or it can't be read.
    fn get(&self, name: &str) -> Result<Vec<u8>, StoreError> {
        let mut bytes = Vec::new();
        let mut object = self.open(name)?;
        match object.read_to_end(&mut bytes) {
            Ok(_) => Ok(bytes),
            Err(source) => Err(StoreError::io(self.place(name))(source)),
        }
    }

    /// Whether there is an object of this name.
    ///
    /// # Errors
    /// It can't be looked at.
    fn holds(&self, name: &str) -> Result<bool, StoreError> {
        match self.length(name) {
            Ok(_) => Ok(true),
            Err(error) if error.is_not_found() => Ok(false),
            Err(error) => Err(error),
        }
    }
}

/// Whether a name stays inside the place: relative, and without `.` and `..`.
pub fn is_plain(name: &str) -> bool {
    let plain = |part: Component<'_>| matches!(part, Component::Normal(_));
    !name.is_empty() && Path::new(name).components().all(plain) && !name.starts_with("./")
}
