//! Lists of a link: one JSON object per line, compressed.

use crate::link_error::LinkError;
use serde::{Serialize, de::DeserializeOwned};
use std::io::{self, BufRead as _, BufReader, Write};
use store::{FileEntry, Hashing, Store, StoreError};

/// Longer lines of a list are not ours.
const LONGEST_LINE: u64 = 64 << 20;

/// Reads a list after checking it against its entry, and calls `each` with every item.
///
/// # Errors
/// The list can't be read, is not what was written, or `each` fails.
pub(crate) fn read<T: DeserializeOwned>(
    store: &dyn Store,
    entry: &FileEntry,
    each: &mut dyn FnMut(T) -> Result<(), LinkError>,
) -> Result<(), LinkError> {
    store::check(store, entry)?;
    let place = store.place(&entry.path);
    let io = |source| StoreError::io(place.clone())(source);
    let decoder = zstd::Decoder::new(store.open(&entry.path)?).map_err(io)?;
    let mut lines = BufReader::with_capacity(1 << 16, decoder);
    let mut line = Vec::new();
    for number in 1_u64.. {
        line.clear();
        let read = io::Read::take(&mut lines, LONGEST_LINE)
            .read_until(b'\n', &mut line)
            .map_err(io)?;
        if read == 0 {
            break;
        }
        let item = serde_json::from_slice(&line).map_err(|error| LinkError::Damaged {
            place: place.clone(),
            problem: format!("line {number}: {error}"),
        })?;
        each(item)?;
    }
    Ok(())
}

/// Writes a list, one JSON object per line, compressed.
pub struct ListWriter {
    place: String,
    name: String,
    encoder: zstd::Encoder<'static, Hashing<Box<dyn Write + Send>>>,
    rows: u64,
}

impl std::fmt::Debug for ListWriter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ListWriter")
            .field("place", &self.place)
            .field("rows", &self.rows)
            .finish_non_exhaustive()
    }
}

impl ListWriter {
    /// Creates the list `name`; there must be none.
    pub fn create(store: &dyn Store, name: String) -> Result<Self, LinkError> {
        let place = store.place(&name);
        let file = Hashing::new(store.create(&name)?);
        let encoder = zstd::Encoder::new(file, 1).map_err(StoreError::io(place.clone()))?;
        Ok(Self {
            place,
            name,
            encoder,
            rows: 0,
        })
    }

    fn failed(&self, source: io::Error) -> LinkError {
        StoreError::io(self.place.clone())(source).into()
    }

    /// Adds an item. One that is too long to be read again is refused.
    pub fn add<T: Serialize>(&mut self, item: &T) -> Result<(), LinkError> {
        let mut line = serde_json::to_vec(item).map_err(|error| self.failed(error.into()))?;
        line.push(b'\n');
        if line.len() as u64 > LONGEST_LINE {
            let problem = "a table changed in too many ranges; take a full backup";
            return Err(self.failed(io::Error::other(problem)));
        }
        self.rows += 1;
        let written = self.encoder.write_all(&line);
        written.map_err(|error| self.failed(error))
    }

    /// Finishes the list. It is not yet durable.
    pub fn finish(self) -> Result<FileEntry, LinkError> {
        let failed = |source| StoreError::io(self.place.clone())(source);
        let hashing = self.encoder.finish().map_err(failed)?;
        let (mut file, entry) = hashing.finish(self.name, self.rows);
        file.flush().map_err(failed)?;
        Ok(entry)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::KeySpan;
    use store::Directory;

    #[test]
    fn a_list_is_read_as_it_was_written() {
        let dir = tempfile::tempdir().unwrap();
        let store = Directory::new(dir.path());
        let mut list = ListWriter::create(&store, "incremental/l.zst".to_owned()).unwrap();
        let spans = |n: i64| {
            vec![KeySpan {
                first: model::Key(n),
                last: model::Key(n + 1),
            }]
        };
        for n in 0..1000 {
            list.add(&spans(n)).unwrap();
        }
        let entry = list.finish().unwrap();
        assert_eq!(entry.rows, 1000);
        let mut found: Vec<Vec<KeySpan>> = Vec::new();
        read(&store, &entry, &mut |item| {
            found.push(item);
            Ok(())
        })
        .unwrap();
        assert_eq!(found, (0..1000).map(spans).collect::<Vec<_>>());
    }

    #[test]
    fn a_line_that_could_not_be_read_again_is_not_written() {
        let dir = tempfile::tempdir().unwrap();
        let mut list = ListWriter::create(&Directory::new(dir.path()), "l.zst".to_owned()).unwrap();
        // With quotes and the end of the line, one byte too long.
        let too_long = "x".repeat(LONGEST_LINE as usize - 2);
        let error = list.add(&too_long).unwrap_err().to_string();
        assert!(error.contains("l.zst"), "{error}");
    }
}
