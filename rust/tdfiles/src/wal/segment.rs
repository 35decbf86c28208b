//! Reading one `.log` file by its chain of headers.

use super::{HEADER_SIZE, Header};
use crate::{FormatError, ReadAt, checksum, read_at::read_full};
use model::Version;

const WHAT: &str = "WAL record";
/// Bytes read at once. Small enough that the checksum finds them in the cache.
const BUFFER: usize = 256 * 1024;

/// The name of a segment: the version of its first record in 20 digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SegmentName {
    /// The version of the first record in the file.
    pub first: Version,
}

impl SegmentName {
    /// Parses `<digits>.log`; `None` for any other file. Like the server, takes any number of digits.
    pub fn parse(name: &str) -> Option<Self> {
        let digits = name.strip_suffix(".log")?;
        let all_digits = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
        all_digits
            .then(|| digits.parse().ok())
            .flatten()
            .map(|n| Self { first: Version(n) })
    }
}

/// A complete record.
#[derive(Debug, Clone, Copy)]
pub struct Record<'a> {
    /// Its header.
    pub header: Header,
    /// Its body, checked against the header; `None` when it is encrypted.
    pub body: Option<&'a [u8]>,
    /// Where its header stands in the file.
    pub offset: u64,
}

/// Why reading a segment came to an end.
#[derive(Debug)]
pub enum SegmentEnd {
    /// At the end of the last record.
    Clean,
    /// In the middle of a record: the file ends before the record does. In the newest segment of a live
    /// server this is a record being written.
    Short {
        /// Where the incomplete record begins.
        offset: u64,
    },
    /// At a record that contradicts the format.
    Bad(FormatError),
}

/// Reads the records of a segment in order. Memory stays at 256 KiB or the largest record, whichever is more,
/// and a record's length is believed only as far as the file reaches.
#[derive(Debug)]
pub struct SegmentReader<S> {
    source: S,
    encrypted: bool,
    /// Size of the file when it was opened; what is appended later is left for the next reader.
    size: u64,
    expected: Version,
    buffer: Vec<u8>,
    /// The part of `buffer` that holds unread bytes of the file.
    start: usize,
    end: usize,
    /// File offset of `buffer[start]`.
    offset: u64,
    finished: bool,
}

impl<S: ReadAt> SegmentReader<S> {
    /// Starts at the segment's first record. `encrypted` is the vnode's WAL setting.
    pub fn new(source: S, name: SegmentName, encrypted: bool) -> Result<Self, FormatError> {
        let size = source
            .size()
            .map_err(|source| FormatError::Io { offset: 0, source })?;
        Ok(Self {
            source,
            encrypted,
            size,
            expected: name.first,
            buffer: vec![
                0;
                BUFFER
                    .min(usize::try_from(size).unwrap_or(BUFFER))
                    .max(HEADER_SIZE)
            ],
            start: 0,
            end: 0,
            offset: 0,
            finished: false,
        })
    }

    /// The version the next record must have: one more than the last that was read.
    pub fn next_version(&self) -> Version {
        self.expected
    }

    /// The next record, or why no more can be read. After an end the reader stays there.
    pub fn next_record(&mut self) -> Result<Record<'_>, SegmentEnd> {
        if self.finished {
            return Err(SegmentEnd::Clean);
        }
        match self.advance() {
            Ok((header, offset, body_at)) => {
                let body = (!self.encrypted)
                    .then(|| &self.buffer[body_at..body_at + header.body_len as usize]);
                Ok(Record {
                    header,
                    body,
                    offset,
                })
            }
            Err(end) => {
                self.finished = true;
                Err(end)
            }
        }
    }

    /// Reads one record into the buffer: its header, where it stands, and where in the buffer its body is.
    fn advance(&mut self) -> Result<(Header, u64, usize), SegmentEnd> {
        let offset = self.offset;
        let left = self.size - offset;
        if left == 0 {
            return Err(SegmentEnd::Clean);
        }
        if left < HEADER_SIZE as u64 {
            return Err(SegmentEnd::Short { offset });
        }
        self.fill(HEADER_SIZE)?;
        let mut header = [0; HEADER_SIZE];
        header.copy_from_slice(&self.buffer[self.start..self.start + HEADER_SIZE]);
        let header = Header::parse(&header, offset).map_err(SegmentEnd::Bad)?;
        if header.version != self.expected {
            let detail = format!(
                "it has version {} where {} must follow",
                header.version, self.expected
            );
            return Err(SegmentEnd::Bad(FormatError::corrupt(WHAT, offset, detail)));
        }
        let stored = header.stored_len(self.encrypted);
        if left - (HEADER_SIZE as u64) < stored {
            return Err(SegmentEnd::Short { offset });
        }
        let total = HEADER_SIZE + stored as usize;
        self.fill(total)?;
        let body_at = self.start + HEADER_SIZE;
        if !self.encrypted {
            let body = &self.buffer[body_at..body_at + stored as usize];
            if checksum::crc32c(body) != header.body_checksum {
                let error = FormatError::corrupt(WHAT, offset, "its body's checksum is wrong");
                return Err(SegmentEnd::Bad(error));
            }
        }
        self.start += total;
        self.offset += total as u64;
        self.expected = header.version.next();
        Ok((header, offset, body_at))
    }

    /// Makes sure that `need` bytes, which the file has, are in the buffer.
    fn fill(&mut self, need: usize) -> Result<(), SegmentEnd> {
        if self.end - self.start >= need {
            return Ok(());
        }
        self.buffer.copy_within(self.start..self.end, 0);
        self.end -= self.start;
        self.start = 0;
        if self.buffer.len() < need {
            self.buffer.resize(need, 0);
        }
        let at = self.offset + self.end as u64;
        let want = (self.buffer.len() - self.end).min((self.size - at) as usize);
        let n = read_full(
            &self.source,
            &mut self.buffer[self.end..self.end + want],
            at,
        )
        .map_err(|source| SegmentEnd::Bad(FormatError::Io { offset: at, source }))?;
        self.end += n;
        // The server truncates a segment when an append fails.
        if self.end < need {
            Err(SegmentEnd::Short {
                offset: self.offset,
            })
        } else {
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_digits_and_log_make_a_segment_name() {
        assert_eq!(
            SegmentName::parse("00000000000000000015.log"),
            Some(SegmentName { first: Version(15) })
        );
        for other in [
            "00000000000000000015.idx",
            "meta-ver7",
            ".log",
            "-1.log",
            "9x.log",
        ] {
            assert_eq!(SegmentName::parse(other), None, "{other}");
        }
        assert_eq!(
            SegmentName::parse("99999999999999999999.log"),
            None,
            "above i64"
        );
    }
}
