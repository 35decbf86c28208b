//! Archives of earlier versions, which are read and not written any more.
//!
//! ```text
//! stream  = "IBBLOCKS" version:u32  record…  end
//! record  = block:u64 wal:u64 time:i64 length:u32 data crc:u32
//! end     = count:u64 0:u64 0:i64 u32::MAX crc:u32
//! ```
//!
//! All numbers are little-endian. A record's CRC-32C is over the record, the last one over all records' CRCs.

use super::{ArchivedBlock, Content, LONGEST};
use std::io::{self, Read};

pub(super) const MAGIC: &[u8; 8] = b"IBBLOCKS";
const VERSION: u32 = 2;

/// No block's data is so long: it ends the records.
const END: u32 = u32::MAX;

fn head(block: u64, wal: u64, time: i64, length: u32) -> [u8; 28] {
    let mut head = [0; 28];
    let numbers = [block.to_le_bytes(), wal.to_le_bytes(), time.to_le_bytes()];
    let (fixed, rest) = head.split_at_mut(24);
    fixed.copy_from_slice(numbers.as_flattened());
    rest.copy_from_slice(&length.to_le_bytes());
    head
}

/// Reads one from beginning to end, and calls `each` with every block; returns how many there are.
pub(super) fn each(input: &mut dyn Read, each: &mut dyn FnMut(ArchivedBlock)) -> io::Result<u64> {
    let mut magic = [0; 12];
    input.read_exact(&mut magic)?;
    if magic.get(..8) != Some(MAGIC.as_slice()) {
        return Err(wrong("it is no archive of blocks".to_owned()));
    }
    if magic.get(8..) != Some(VERSION.to_le_bytes().as_slice()) {
        return Err(wrong("its version is not known here".to_owned()));
    }
    let (mut count, mut all) = (0_u64, 0_u32);
    let said = loop {
        let block = u64::from_le_bytes(bytes(input)?);
        let wal = u64::from_le_bytes(bytes(input)?);
        let time = i64::from_le_bytes(bytes(input)?);
        let length = u32::from_le_bytes(bytes(input)?);
        if length == END {
            break (block, wal, time);
        }
        if length > LONGEST {
            return Err(wrong(format!("record {count} has an impossible length")));
        }
        // Grows as data comes, whatever the length says.
        let mut data = Vec::new();
        let read = (&mut *input).take(length.into()).read_to_end(&mut data)?;
        if read != length as usize {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let crc: [u8; 4] = bytes(input)?;
        let head = head(block, wal, time, length);
        if crc32c::crc32c_append(crc32c::crc32c(&head), &data).to_le_bytes() != crc {
            return Err(wrong(format!("record {count} does not fit its checksum")));
        }
        all = crc32c::crc32c_append(all, &crc);
        count += 1;
        each(ArchivedBlock {
            block,
            wal,
            time,
            part: 0,
            content: Content::Bytes(data),
        });
    };
    let crc = u32::from_le_bytes(bytes(input)?);
    if (said, crc) != ((count, 0, 0), all) {
        return Err(wrong(format!(
            "it holds {count} records, its end says {}",
            said.0
        )));
    }
    match input.read(&mut [0])? {
        0 => Ok(count),
        _ => Err(wrong("it goes on after its end".to_owned())),
    }
}

fn bytes<const N: usize>(input: &mut dyn Read) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    input.read_exact(&mut bytes)?;
    Ok(bytes)
}

fn wrong(problem: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, problem)
}

/// An archive as earlier versions wrote it.
#[cfg(test)]
pub(super) fn write(blocks: &[(u64, u64, i64, Vec<u8>)]) -> Vec<u8> {
    let mut stream = [MAGIC.as_slice(), &VERSION.to_le_bytes()].concat();
    let mut all = 0;
    for (block, wal, time, data) in blocks {
        let head = head(*block, *wal, *time, data.len() as u32);
        let crc = crc32c::crc32c_append(crc32c::crc32c(&head), data).to_le_bytes();
        all = crc32c::crc32c_append(all, &crc);
        stream.extend([head.as_slice(), data, &crc].concat());
    }
    stream.extend(head(blocks.len() as u64, 0, 0, END));
    stream.extend(all.to_le_bytes());
    stream
}
