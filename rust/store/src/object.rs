//! The seam between what we write and where it is kept.

use crate::StoreError;
use std::{
    fmt::Debug,
    io::{Read, Write},
    ops::Range,
    path::{Component, Path},
    time::SystemTime,
};

/// An object that a listing found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Its name, from the place.
    pub name: String,
    /// Its length.
    pub bytes: u64,
    /// When it was written last, by the clock of whoever keeps it.
    pub modified: SystemTime,
}

/// What came of creating an object that must not be there yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Created {
    /// It was not there, and is now.
    Written,
    /// There is one of this name with other bytes, which was left as it is.
    AlreadyThere,
}

/// An object while it is written. Dropped before [`Self::finish`], it leaves nothing.
pub trait Upload: Write + Send + Debug {
    /// Gives the object its name: from now on it is there, whole and durable.
    ///
    /// # Errors
    /// It can't be written. There is no object then.
    fn finish(self: Box<Self>) -> Result<(), StoreError>;
}

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

    /// Begins an object that is written piece by piece, with bounded memory and no copy elsewhere. It is there only once it
    /// is finished, and takes the place of one that has its name.
    ///
    /// # Errors
    /// It can't be begun.
    fn upload(&self, name: &str) -> Result<Box<dyn Upload>, StoreError>;

    /// Writes an object whole and durable if there is none of its name: of several that do this at a time exactly one wins.
    /// This is how something is committed. One that is there with the very same bytes counts as this one, as the answer to
    /// an earlier try may have been lost; so the bytes must hold something that nobody else writes, such as a random id.
    ///
    /// # Errors
    /// It can't be written, or it can't be found out whether it was.
    fn put_new(&self, name: &str, bytes: &[u8]) -> Result<Created, StoreError>;

    /// Tells of every object below a folder, in no order; of every object there is for an empty one. A folder that is not
    /// there holds none.
    ///
    /// # Errors
    /// The folder can't be listed, or `each` gave an error.
    fn list(
        &self,
        folder: &str,
        each: &mut dyn FnMut(Found) -> Result<(), StoreError>,
    ) -> Result<(), StoreError>;

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

/// Whether a place keeps the promise of [`Store::put_new`], which some that speak like S3 do not: they overwrite. Writes
/// and removes one object of this name.
///
/// # Errors
/// The object can't be written or removed.
pub fn can_commit(store: &dyn Store, name: &str) -> Result<bool, StoreError> {
    let first = store.put_new(
        name,
        b"a first object, to see whether a second one replaces it\n",
    )?;
    let second = store.put_new(name, b"a second object\n")?;
    store.remove(name)?;
    Ok((first, second) == (Created::Written, Created::AlreadyThere))
}
