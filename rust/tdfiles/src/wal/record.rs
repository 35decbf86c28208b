//! The 56-byte record header, packed and little-endian (wal.h, unchanged from server 3.3.1 to 3.3.7):
//!
//! | offset | field |
//! |---|---|
//! | 0 | u64 magic |
//! | 8 | u32 CRC-32C of bytes 16..56 |
//! | 12 | u32 CRC-32C of the plain body |
//! | 16 | i64 version |
//! | 24 | i64 ingest time, µs since the epoch, by this replica's clock |
//! | 32 | i32 plain length of the body |
//! | 36 | i16 message type |
//! | 38 | u8 protocol version, u8 weak flag, i64 sequence number, i64 term (raft) |

use crate::{FormatError, checksum, cursor::Cursor};
use model::Version;

/// Size of a record's header in bytes.
pub const HEADER_SIZE: usize = 56;
const MAGIC: [u8; 8] = 0xFAFB_FCFD_F4F3_F2F1_u64.to_le_bytes();
const WHAT: &str = "WAL record header";

/// A record's header, checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// The record's version.
    pub version: Version,
    /// When this replica appended it: microseconds since the epoch, by its own clock.
    pub ingest_us: i64,
    /// Length of the plain body in bytes.
    pub body_len: u32,
    /// The message type.
    pub message_type: i16,
    pub(super) body_checksum: u32,
}

impl Header {
    /// Parses a header that stands at `offset` in its file.
    pub fn parse(bytes: &[u8; HEADER_SIZE], offset: u64) -> Result<Self, FormatError> {
        if !bytes.starts_with(&MAGIC) {
            return Err(FormatError::corrupt(
                WHAT,
                offset,
                "it does not begin with the magic number",
            ));
        }
        let mut cursor = Cursor::new(WHAT, &bytes[8..], offset + 8);
        let head_checksum = cursor.u32()?;
        if checksum::crc32c(&bytes[16..]) != head_checksum {
            return Err(FormatError::corrupt(WHAT, offset, "its checksum is wrong"));
        }
        let body_checksum = cursor.u32()?;
        let version = Version(cursor.i64()?);
        let ingest_us = cursor.i64()?;
        let body_len = cursor.i32()?;
        let message_type = i16::from_le_bytes(cursor.array()?);
        let body_len = u32::try_from(body_len)
            .map_err(|_| FormatError::corrupt(WHAT, offset, "its body length is negative"))?;
        Ok(Self {
            version,
            ingest_us,
            body_len,
            message_type,
            body_checksum,
        })
    }

    /// Bytes the body takes on disk: an encrypted one is padded to 16.
    pub(super) fn stored_len(&self, encrypted: bool) -> u64 {
        let len = u64::from(self.body_len);
        if encrypted {
            len.next_multiple_of(16)
        } else {
            len
        }
    }
}
