//! An archive from its beginning to its end: what its manifest says is held against what is there.

use super::{
    ArchivedBlock, Content, LONGEST,
    contents::{BlockEntry, ContentEntry, Contents, FORMAT_FILE, Format, MANIFEST_FILE, RowsEntry},
    pack,
};
use model::{DataType, sealed};
use rows::{block::RowsFile, sink::RowsOf};
use sha2::{Digest as _, Sha256};
use std::{
    collections::HashMap,
    io::{self, Read},
};
use store::{FileEntry, hex};

/// A manifest has no more bytes.
pub(super) const LONGEST_MANIFEST: u64 = 1 << 30;

/// No manifest can name more files: each takes more bytes than this in it.
const MOST_FILES: u64 = LONGEST_MANIFEST / 100;

/// Reads all of it; what it holds, if it is what was written.
pub(super) fn check(input: &mut dyn Read) -> io::Result<Contents> {
    let mut found = Vec::new();
    let manifest = walk(input, &mut |name, length, input| {
        if found.len() as u64 >= MOST_FILES {
            return Err(wrong(
                "it has more files than a manifest can name".to_owned(),
            ));
        }
        let mut hashing = Hash::default();
        let read = io::copy(&mut input.take(length), &mut hashing)?;
        if read != length {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        found.push((name, length, hex(&hashing.0.finalize())));
        Ok(())
    })?;
    let contents: Contents = serde_json::from_slice(&manifest)
        .map_err(|error| wrong(format!("{MANIFEST_FILE}: {error}")))?;
    let mut said: HashMap<&str, &FileEntry> = HashMap::new();
    for entry in contents.files() {
        if said.insert(&entry.path, entry).is_some() {
            return Err(wrong(format!("{} is named twice", entry.path)));
        }
    }
    for (name, length, sha256) in &found {
        let entry = said.remove(name.as_str());
        if entry.is_none_or(|entry| entry.bytes != *length || entry.sha256 != *sha256) {
            return Err(wrong(format!(
                "{name} is not the file that its manifest names"
            )));
        }
    }
    if let Some(name) = said.into_keys().next() {
        return Err(wrong(format!("{name} is not in it")));
    }
    for block in &contents.blocks {
        if let ContentEntry::Rows(rows) = &block.content {
            columns(block.block, rows)?;
        }
    }
    Ok(contents)
}

/// Calls `each` with every block of an archive that was checked.
pub(super) fn each(
    input: &mut dyn Read,
    contents: &Contents,
    each: &mut dyn FnMut(ArchivedBlock),
) -> io::Result<()> {
    let mut wanted: HashMap<&str, (&BlockEntry, usize, &FileEntry)> = HashMap::new();
    for block in &contents.blocks {
        for (part, file) in block.files().enumerate() {
            wanted.insert(&file.path, (block, part, file));
        }
        if block.files().next().is_none() {
            each(archived(block, 0, &no_file(), Vec::new())?);
        }
    }
    walk(input, &mut |name, length, input| {
        let Some((block, part, file)) = wanted.remove(name.as_str()) else {
            return skip(input, length);
        };
        if length > u64::from(LONGEST) || length != file.bytes {
            return Err(wrong(format!("{name} has an impossible length")));
        }
        // Grows as data comes, whatever the length says.
        let mut bytes = Vec::new();
        input.take(length).read_to_end(&mut bytes)?;
        if hex(&Sha256::digest(&bytes)) != file.sha256 {
            return Err(wrong(format!("{name} was changed while it was read")));
        }
        each(archived(block, part, file, bytes)?);
        Ok(())
    })?;
    match wanted.into_keys().next() {
        Some(name) => Err(wrong(format!("{name} is gone since it was checked"))),
        None => Ok(()),
    }
}

/// Calls `each` with every file but the first and the last, which it reads; returns the last, whose seal is whole.
fn walk(
    input: &mut dyn Read,
    each: &mut dyn FnMut(String, u64, &mut dyn Read) -> io::Result<()>,
) -> io::Result<Vec<u8>> {
    let json = |input: &mut dyn Read, name: &str, length: u64, most: u64| {
        if length > most {
            return Err(wrong(format!("{name} has an impossible length")));
        }
        let mut bytes = Vec::new();
        let read = input.take(length).read_to_end(&mut bytes)?;
        if read as u64 != length {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        sealed::check(&bytes).map_err(|broken| wrong(format!("{name}: {broken}")))?;
        pack::skip_padding(input, length)?;
        Ok(bytes)
    };
    match pack::next(input)? {
        Some((name, length)) if name == FORMAT_FILE => {
            let bytes = json(input, &name, length, 1 << 16)?;
            let format: Format = serde_json::from_slice(&bytes)
                .map_err(|error| wrong(format!("{name}: {error}")))?;
            if let Some(problem) = format.problem() {
                return Err(io::Error::new(io::ErrorKind::Unsupported, problem));
            }
        }
        _ => return Err(wrong("it is no archive of blocks".to_owned())),
    }
    while let Some((name, length)) = pack::next(input)? {
        if name == MANIFEST_FILE {
            let manifest = json(input, &name, length, LONGEST_MANIFEST)?;
            return match pack::next(input)? {
                None => Ok(manifest),
                Some((name, _)) => Err(wrong(format!("{name} follows its manifest"))),
            };
        }
        each(name, length, input)?;
        pack::skip_padding(input, length)?;
    }
    Err(wrong(format!("{MANIFEST_FILE} is not in it")))
}

fn skip(input: &mut dyn Read, length: u64) -> io::Result<()> {
    match io::copy(&mut input.take(length), &mut io::sink())? == length {
        true => Ok(()),
        false => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

fn no_file() -> FileEntry {
    FileEntry {
        path: String::new(),
        bytes: 0,
        sha256: String::new(),
        rows: 0,
    }
}

fn archived(
    entry: &BlockEntry,
    part: usize,
    file: &FileEntry,
    bytes: Vec<u8>,
) -> io::Result<ArchivedBlock> {
    let content = match &entry.content {
        ContentEntry::Data(_) => Content::Bytes(bytes),
        ContentEntry::Rows(rows) => Content::Rows(rows_file(entry.block, rows, part, file, bytes)?),
    };
    Ok(ArchivedBlock {
        block: entry.block,
        wal: entry.wal,
        time: entry.time,
        part,
        content,
    })
}

fn rows_file(
    block: u64,
    rows: &RowsEntry,
    part: usize,
    file: &FileEntry,
    bytes: Vec<u8>,
) -> io::Result<RowsFile> {
    let window = rows.parts.get(part);
    let (first, last) = window.map_or((rows.first, rows.last), |part| (part.first, part.last));
    let of = RowsOf {
        block,
        first,
        last,
        database: rows.database.clone(),
        table: rows.table.clone(),
        columns: columns(block, rows)?,
    };
    Ok(RowsFile {
        of,
        count: file.rows,
        bytes,
    })
}

fn columns(block: u64, rows: &RowsEntry) -> io::Result<Vec<(String, DataType)>> {
    let columns = rows.columns.iter().map(|column| {
        let data_type = DataType::from_code(column.data_type);
        let data_type = data_type.ok_or_else(|| {
            wrong(format!(
                "column {} of block {block} has the unknown type {}",
                column.name, column.data_type
            ))
        })?;
        Ok((column.name.clone(), data_type))
    });
    columns.collect()
}

#[derive(Default)]
struct Hash(Sha256);

impl io::Write for Hash {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn wrong(problem: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, problem)
}
