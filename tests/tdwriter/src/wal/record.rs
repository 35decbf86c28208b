//! Record headers and the files of one segment.

use std::{
    fs::{self, File},
    io::{self, BufWriter, Write},
    path::Path,
};

use crate::bytes::Put;

/// First 8 bytes of every record.
const MAGIC: u64 = 0xFAFB_FCFD_F4F3_F2F1;

/// One log record.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// Raft index; one more than that of the record before.
    pub version: i64,
    /// Wall clock at append in microseconds since 1970.
    pub ingest_us: i64,
    /// Message type, see the constants of this module.
    pub msg_type: i16,
    /// Raft term.
    pub term: i64,
    /// Plain message body.
    pub body: Vec<u8>,
}

/// The bytes of a record: 56-byte header with both CRC-32Cs, then the body.
pub fn encode_record(record: &Record) -> Vec<u8> {
    let mut out = header(record);
    out.raw(&record.body);
    out
}

/// The bytes of a record as an encrypting server would shape them: the header (with length and checksum of the plain
/// body), then as many 16-byte units as the body needs, of bytes nobody can read.
fn encode_encrypted(record: &Record) -> Vec<u8> {
    let mut out = header(record);
    let padded = record.body.len().next_multiple_of(16);
    out.extend(
        (0..padded)
            .map(|i| record.body.get(i).copied().unwrap_or(0) ^ (i as u8).wrapping_mul(151) ^ 0xa5),
    );
    out
}

fn header(record: &Record) -> Vec<u8> {
    let mut covered = Vec::with_capacity(40);
    covered.i64(record.version);
    covered.i64(record.ingest_us);
    covered.i32(i32::try_from(record.body.len()).unwrap());
    covered.i16(record.msg_type);
    covered.raw(&[0, 0]);
    covered.i64(0);
    covered.i64(record.term);
    let mut out = Vec::with_capacity(56 + record.body.len());
    out.raw(&MAGIC.to_le_bytes());
    out.u32(crc32c::crc32c(&covered));
    out.u32(crc32c::crc32c(&record.body));
    out.raw(&covered);
    out
}

/// One segment: a `.log` and an `.idx` file.
#[derive(Clone, Debug, Default)]
pub struct Segment {
    /// Version in the file names: that of the first record, or of the next one if there is none yet.
    pub first_version: i64,
    /// Records in order of version.
    pub records: Vec<Record>,
    /// Shapes the bodies as an encrypting server would; headers stay plain.
    pub encrypted: bool,
}

/// Writes both files of a segment into `dir`.
pub fn write_segment(dir: &Path, segment: &Segment) -> io::Result<()> {
    let mut w = SegmentWriter::create(dir, segment.first_version)?;
    w.encrypted = segment.encrypted;
    for record in &segment.records {
        w.append(record)?;
    }
    w.finish()?;
    Ok(())
}

/// Writes a segment record by record.
pub struct SegmentWriter {
    log: BufWriter<File>,
    idx: BufWriter<File>,
    offset: i64,
    /// Shapes the bodies as an encrypting server would.
    pub encrypted: bool,
}

impl SegmentWriter {
    /// Creates both files in `dir`, named after the version of the first record.
    pub fn create(dir: &Path, first_version: i64) -> io::Result<Self> {
        let file =
            |ext| File::create(dir.join(format!("{first_version:020}.{ext}"))).map(BufWriter::new);
        Ok(Self {
            log: file("log")?,
            idx: file("idx")?,
            offset: 0,
            encrypted: false,
        })
    }

    /// Appends one record.
    pub fn append(&mut self, record: &Record) -> io::Result<()> {
        let bytes = if self.encrypted {
            encode_encrypted(record)
        } else {
            encode_record(record)
        };
        self.idx.write_all(&record.version.to_le_bytes())?;
        self.idx.write_all(&self.offset.to_le_bytes())?;
        self.log.write_all(&bytes)?;
        self.offset += bytes.len() as i64;
        Ok(())
    }

    /// Writes what is buffered; answers the size of the log in bytes.
    pub fn finish(mut self) -> io::Result<i64> {
        self.idx.flush()?;
        self.log.flush()?;
        Ok(self.offset)
    }
}

/// A segment as `meta-ver<N>` lists it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WalFile {
    /// Version of its first record.
    pub first: i64,
    /// Version of its last record, or -1 while it is the open one.
    pub last: i64,
    /// Created, in seconds since 1970.
    pub created_s: i64,
    /// Closed, in seconds since 1970, or -1 while it is open.
    pub closed_s: i64,
    /// Size of the log in bytes, or 0 while it is the open one.
    pub size: i64,
}

/// Writes `meta-ver<n>`: the versions before the first record (`first`), of the last commit (`committed`), of the last
/// record (`last`), and the segments.
pub fn write_meta(
    dir: &Path,
    n: u32,
    first: i64,
    committed: i64,
    last: i64,
    files: &[WalFile],
) -> io::Result<()> {
    let mut text = format!(
        "{{\n\t\"meta\":\t{{\n\t\t\"firstVer\":\t\"{first}\",\n\t\t\"snapshotVer\":\t\"{committed}\",\n\
         \t\t\"commitVer\":\t\"{committed}\",\n\t\t\"lastVer\":\t\"{last}\"\n\t}},\n\t\"files\":\t["
    );
    let files: Vec<_> = files
        .iter()
        .map(|f| {
            format!(
                "{{\n\t\t\t\"firstVer\":\t\"{}\",\n\t\t\t\"lastVer\":\t\"{}\",\n\t\t\t\"createTs\":\t\"{}\",\n\
                 \t\t\t\"closeTs\":\t\"{}\",\n\t\t\t\"fileSize\":\t\"{}\"\n\t\t}}",
                f.first, f.last, f.created_s, f.closed_s, f.size
            )
        })
        .collect();
    text += &files.join(", ");
    text += "]\n}";
    fs::write(dir.join(format!("meta-ver{n}")), text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recorded_commit_record_is_reproduced() {
        let record = Record {
            version: 14,
            ingest_us: 1_795_242_056_061_760,
            msg_type: super::super::COMMIT,
            term: 1,
            body: super::super::commit(2),
        };
        let recorded = "f1f2f3f4fdfcfbfa97f1af60d19574710e000000000000004093095dc360060008000000550200000000000000000000\
                        01000000000000000800000002000000";
        assert_eq!(crate::hex(&encode_record(&record)), recorded);
    }

    #[test]
    fn encrypted_bodies_fill_whole_units_and_keep_the_plain_header() {
        let record = Record {
            body: vec![7; 17],
            ..Record::default()
        };
        let shaped = encode_encrypted(&record);
        assert_eq!(shaped[..56], encode_record(&record)[..56]);
        assert_eq!(shaped.len(), 56 + 32);
        assert_ne!(shaped[56..73], record.body);
    }

    #[test]
    fn idx_entries_point_at_headers() {
        let dir = tempfile::tempdir().unwrap();
        let records: Vec<_> = (5..8)
            .map(|v| Record {
                version: v,
                body: vec![0; 10],
                ..Record::default()
            })
            .collect();
        write_segment(
            dir.path(),
            &Segment {
                first_version: 5,
                records,
                encrypted: false,
            },
        )
        .unwrap();
        let idx = fs::read(dir.path().join("00000000000000000005.idx")).unwrap();
        let words: Vec<_> = idx
            .chunks(8)
            .map(|b| i64::from_le_bytes(b.try_into().unwrap()))
            .collect();
        assert_eq!(words, [5, 0, 6, 66, 7, 132]);
    }
}
