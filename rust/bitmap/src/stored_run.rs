//! A run as a file: how it is written, and how every byte of it is checked when it is read back.
//!
//! Little-endian:
//! ```text
//! 8    magic "TDBMRUN\n"
//! u32  format version, that of the manifest, which is read first
//! u32  tree: 0 records, 1 by time, 2 by WAL
//! u64  rows
//! u64  bytes of chunks
//! u64  chunks
//! u64, u64  key of the last row
//! per chunk: u64, u64 key of its first row, u64 offset from the first chunk
//! u32  CRC-32C of everything before it
//! the chunks, each with its own checksum (see chunk.rs)
//! ```

use crate::{
    bytes::Bytes,
    chunk::{self, Chunk, MAX_CHUNK_BYTES},
    disk::{Disk, FORMAT, Serial},
    error::{EngineError, io_error},
    memory::Memory,
    row::{Key, Row},
    run::{Fence, Run, RunBuilder, RunParts},
    run_file::RunFile,
};
use serde::{Deserialize, Serialize};
use std::{fs::File, io, os::unix::fs::FileExt, sync::Arc};

const RUN_MAGIC: &[u8; 8] = b"TDBMRUN\n";
const RUN_HEADER: usize = 8 + 4 + 4 + 8 + 8 + 8 + 16;
const FENCE: usize = 24;
/// No run has more chunks than this: merging makes no run larger than two full ones. The size of the file proves
/// nothing, as the file may be sparse.
const MOST_CHUNKS: u64 = 1 << 22;

/// Which tree a run belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum TreeKind {
    Records = 0,
    ByTime = 1,
    ByWal = 2,
}

/// A run as the manifest names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RunEntry {
    pub(crate) serial: u64,
    pub(crate) first: Key,
    pub(crate) last: Key,
}

/// A run read back: what is whole of it.
pub(crate) enum ReadRun<R> {
    /// All of it.
    Whole(Run<R>),
    /// Not all of it. Its intact chunks, and the key ranges of the others.
    Damaged {
        intact: RunBuilder<R>,
        lost: Vec<(Key, Key)>,
        offset: u64,
        what: &'static str,
    },
}

impl Disk {
    /// Writes the file of a run that is in memory. It counts once a manifest names it.
    pub(crate) fn write_run<R: Row>(
        &self,
        run: &Run<R>,
        kind: TreeKind,
    ) -> Result<(), EngineError> {
        let Some(bytes) = run.resident_bytes() else {
            return Ok(());
        };
        let mut header = Vec::with_capacity(RUN_HEADER + run.fences.len() * FENCE + 4);
        header.extend_from_slice(RUN_MAGIC);
        header.extend_from_slice(&FORMAT.to_le_bytes());
        header.extend_from_slice(&(kind as u32).to_le_bytes());
        for value in [
            run.rows,
            run.length,
            run.fences.len() as u64,
            run.last.0,
            run.last.1,
        ] {
            header.extend_from_slice(&value.to_le_bytes());
        }
        for fence in &run.fences {
            for value in [fence.first.0, fence.first.1, fence.offset] {
                header.extend_from_slice(&value.to_le_bytes());
            }
        }
        header.extend_from_slice(&crc32c::crc32c(&header).to_le_bytes());
        let path = self.run_path(run.serial);
        let file = self.publish(&path, |writer| {
            writer.write_all(&header)?;
            writer.write_all(&bytes)
        })?;
        run.set_file(RunFile::new(file, path, header.len() as u64, &self.open).settled());
        Ok(())
    }

    /// Reads the run that the manifest calls `entry`, checking every byte of it.
    pub(crate) fn read_run<R: Row>(
        &self,
        entry: &RunEntry,
        kind: TreeKind,
        memory: &Arc<Memory>,
    ) -> Result<ReadRun<R>, EngineError> {
        let path = self.run_path(Serial(entry.serial));
        let all_lost = |what| ReadRun::Damaged {
            intact: RunBuilder::new(),
            lost: vec![(entry.first, entry.last)],
            offset: 0,
            what,
        };
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Ok(all_lost("the file is missing"));
            }
            Err(error) => return Err(io_error("opening", &path)(error)),
        };
        let size = file.metadata().map_err(io_error("reading", &path))?.len();
        let read = |offset: u64, length: usize| -> Result<Option<Vec<u8>>, EngineError> {
            if offset
                .checked_add(length as u64)
                .is_none_or(|end| end > size)
            {
                return Ok(None);
            }
            let mut bytes = vec![0; length];
            file.read_exact_at(&mut bytes, offset)
                .map_err(io_error("reading", &path))?;
            Ok(Some(bytes))
        };
        let Some(mut header) = read(0, RUN_HEADER)? else {
            return Ok(all_lost("the header is cut off"));
        };
        if !header.starts_with(RUN_MAGIC) {
            return Ok(all_lost("it does not start like a run"));
        }
        let chunks = long(&header, 32);
        let fences_end = chunks
            .checked_mul(FENCE as u64)
            .and_then(|bytes| bytes.checked_add(4))
            .filter(|&bytes| bytes <= size && chunks <= MOST_CHUNKS);
        let Some(fences_length) = fences_end else {
            return Ok(all_lost("the number of chunks is too large"));
        };
        let Some(rest) = read(RUN_HEADER as u64, fences_length as usize)? else {
            return Ok(all_lost("the header is cut off"));
        };
        header.extend_from_slice(&rest);
        let Some((body, crc)) = header.split_last_chunk::<4>() else {
            return Ok(all_lost("the header is cut off"));
        };
        if u32::from_le_bytes(*crc) != crc32c::crc32c(body) {
            return Ok(all_lost("the checksum of the header does not match"));
        }
        let version = short(body, 8);
        if version != FORMAT {
            return Err(EngineError::UnknownFormat {
                path,
                found: version,
                known: FORMAT,
            });
        }
        let parts = RunParts {
            serial: Serial(entry.serial),
            rows: long(body, 16),
            length: long(body, 24),
            last: (long(body, 40), long(body, 48)),
            fences: body[RUN_HEADER..]
                .chunks_exact(FENCE)
                .map(|fence| Fence {
                    first: (long(fence, 0), long(fence, 8)),
                    offset: long(fence, 16),
                })
                .collect(),
        };
        let ascending = parts.fences.windows(2).all(|w| {
            w[0].first < w[1].first
                && w[0].offset < w[1].offset
                && w[1].offset - w[0].offset <= MAX_CHUNK_BYTES as u64
        });
        let starts = parts
            .fences
            .first()
            .is_some_and(|fence| fence.offset == 0 && fence.first == entry.first);
        let ends = parts.fences.last().is_some_and(|fence| {
            fence.first <= parts.last
                && fence.offset < parts.length
                && parts.length - fence.offset <= MAX_CHUNK_BYTES as u64
        });
        if short(body, 12) != kind as u32
            || parts.last != entry.last
            || !ascending
            || !starts
            || !ends
        {
            return Ok(all_lost("it is not the run the manifest names"));
        }
        let data_start = header.len() as u64;
        let file = RunFile::new(file, path, data_start, &self.open);
        check_chunks(parts, file, size, memory)
    }
}

fn check_chunks<R: Row>(
    parts: RunParts,
    file: RunFile,
    size: u64,
    memory: &Arc<Memory>,
) -> Result<ReadRun<R>, EngineError> {
    let mut intact = RunBuilder::new();
    let mut lost = Vec::new();
    let mut first_damage = None;
    let mut count = 0;
    for (i, fence) in parts.fences.iter().enumerate() {
        let next = parts.fences.get(i + 1);
        let end = next.map_or(parts.length, |fence| fence.offset);
        let cut = file
            .data_start()
            .checked_add(end)
            .is_none_or(|end| end > size);
        let rows = if cut {
            Err("a chunk is cut off")
        } else {
            let bytes = file.read(fence.offset, (end - fence.offset) as usize)?;
            let kept = first_damage.is_some().then_some(&mut intact);
            read_chunk(bytes, fence.first, kept)
        };
        match rows {
            Ok(rows) => count += rows,
            Err(what) => {
                if first_damage.is_none() {
                    first_damage = Some((fence.offset, what));
                    keep_chunks(&parts, &file, i, &mut intact, &mut lost)?;
                }
                lost.push((fence.first, parts.end_of(i)));
            }
        }
    }
    if let Some((offset, what)) = first_damage {
        return Ok(ReadRun::Damaged {
            intact,
            lost,
            offset: file.data_start() + offset,
            what,
        });
    }
    if count != parts.rows || file.data_start() + parts.length != size {
        return Ok(ReadRun::Damaged {
            intact: RunBuilder::new(),
            lost: vec![(
                parts.fences.first().map_or(parts.last, |f| f.first),
                parts.last,
            )],
            offset: 0,
            what: "its length does not fit its header",
        });
    }
    Ok(ReadRun::Whole(Run::new(
        parts,
        None,
        Some(file.settled()),
        memory,
    )))
}

/// Checks a chunk and adds it to `kept`. Returns its number of rows, or what is wrong with it.
fn read_chunk<R: Row>(
    bytes: Vec<u8>,
    first: Key,
    kept: Option<&mut RunBuilder<R>>,
) -> Result<u64, &'static str> {
    if !chunk::is_intact(&bytes) {
        return Err("the checksum of a chunk does not match");
    }
    let length = bytes.len();
    let bytes = Arc::new(Bytes::from(bytes));
    let chunk = Chunk::<R>::parse(Arc::clone(&bytes), 0, length).map_err(|problem| problem.0)?;
    let rows = chunk.len();
    if let Some(kept) = kept {
        kept.push_chunk(&bytes, first, chunk.row(rows - 1).key(), rows as u64);
    }
    Ok(rows as u64)
}

/// Adds the first `chunks` chunks, which were found intact, to `kept`.
fn keep_chunks<R: Row>(
    parts: &RunParts,
    file: &RunFile,
    chunks: usize,
    kept: &mut RunBuilder<R>,
    lost: &mut Vec<(Key, Key)>,
) -> Result<(), EngineError> {
    for (i, fence) in parts.fences.iter().enumerate().take(chunks) {
        let end = parts.fences.get(i + 1).map_or(parts.length, |f| f.offset);
        let bytes = file.read(fence.offset, (end - fence.offset) as usize)?;
        // The chunk was intact a moment ago, but a failing disk may give other bytes now.
        if read_chunk(bytes, fence.first, Some(&mut *kept)).is_err() {
            lost.push((fence.first, parts.end_of(i)));
        }
    }
    Ok(())
}

/// The `u64` at `at`, 0 past the end.
fn long(bytes: &[u8], at: usize) -> u64 {
    bytes
        .get(at..at + 8)
        .and_then(|b| b.try_into().ok())
        .map_or(0, u64::from_le_bytes)
}

/// The `u32` at `at`, 0 past the end.
fn short(bytes: &[u8], at: usize) -> u32 {
    bytes
        .get(at..at + 4)
        .and_then(|b| b.try_into().ok())
        .map_or(0, u32::from_le_bytes)
}
