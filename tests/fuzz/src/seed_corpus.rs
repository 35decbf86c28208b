//! Writes a first corpus for every target, from the recorded data: `seed_corpus TESTS_DATA CORPUS`.

use model::{
    Cell, Cells, ColumnId, Key, Precision, RowBatch, Suid, Uid, Version, VgId,
    catalogue::{Column, ColumnType, Schema},
};
use rows::{
    arrow::{Layout, Origin, encode},
    parquet::FileWriter,
};
use std::{error::Error, fs, path::Path, sync::Arc};
use tdfiles::{
    current_json::{CurrentJson, FileEntry},
    tsdb::{HeadFile, PagedFile},
    vnode_json::VnodeJson,
    wal::{SegmentName, SegmentReader},
};

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args_os().skip(1);
    let (Some(data), Some(corpus)) = (args.next(), args.next()) else {
        return Err("usage: seed_corpus TESTS_DATA CORPUS".into());
    };
    let root = Path::new(&corpus);
    let prefix = "written".to_owned();
    let mut written = Corpus { root, prefix, n: 0 };
    written.add("config", config::Config::default().to_json().as_bytes())?;
    written.add(
        "config",
        b"[plugins.incremental_bitmap]\nmax_blocks = 3\nenable = true\n",
    )?;
    written.add(
        "blocks",
        br#"{"format":1,"database":"d","precision":"ms","window":"1","vnodes":[{"vgroup":2,"db_id":"7","from_version":"1","to_version":"2","source":"tsdb","complete":true,"reasons":[]}],"tables":[{"vgroup":2,"suid":"0","uid":"5","name":"t","state":"dirty","rows":1,"spans":[["1","2"]],"deletes":[]}],"blocks":[]"#,
    )?;
    let numbers: Vec<u8> = (0..200).collect();
    let calls: [&[u8]; 11] = [
        br#"{"source": {"host": "h", "database": "d"}, "log": {"level": "error"}}"#,
        b"localhost\0d1\0backups\0cache",
        &numbers,
        b"IBBLOCKS\x02\0\0\0",
        &numbers,
        &numbers,
        b"/var/lib/taos\0d1\0position",
        b"D d1\0o/nonexistent\0\x81\0h localhost\0P 1",
        b"max_blocks\05\0memory_limit_mb\064\0event_buffer_size\0100",
        &numbers,
        &[0; 3_000],
    ];
    for (what, data) in (0..).zip(calls) {
        written.add("c_api", &[&[what][..], data].concat())?;
    }
    written.add("c_api", &[&[3][..], &archive()?].concat())?;
    written.add("parquet_rows", &parquet_file()?)?;
    let chain = links::Chain::new()?;
    for link in ["full", "inc1", "inc2"] {
        for path in chain.files(link)? {
            let bytes = fs::read(chain.path(link).join(&path))?;
            if path.ends_with("incremental/manifest.json") {
                // The target adds the checksum again.
                let end = bytes.windows(12).rposition(|w| w == b",\"checksum\":");
                written.add(
                    "link",
                    bytes.get(..end.unwrap_or(bytes.len())).unwrap_or(&bytes),
                )?;
            } else if path
                .extension()
                .is_some_and(|extension| extension == "avro")
            {
                for choice in 0..4_u8 {
                    written.add("data_file", &[&[choice], bytes.as_slice()].concat())?;
                }
            }
        }
    }
    for link in ["full", "inc"] {
        let path = Path::new(&data).join(format!("chain_parquet/{link}/incremental/0.bitmaps"));
        let bytes = fs::read(path)?;
        let frame = bytes.get(12..bytes.len().saturating_sub(4));
        written.add("bitmaps", &zstd::decode_all(frame.unwrap_or_default())?)?;
    }
    let main = fs::read(Path::new(&data).join("meta/small.tdb"))?;
    let pages = u16::try_from(main.len() / 1024)?.to_le_bytes();
    // As a journal: what the last page was.
    let last = main.len().saturating_sub(1024);
    let entry = [&u32::from(pages[0]).to_le_bytes()[..], &main[last..]].concat();
    written.add("tdb", &[&pages[..], &main, &entry].concat())?;
    for state in ["base", "incr_wal", "incr_flushed"] {
        for vnode in ["vnode2", "vnode3"] {
            let dir = Path::new(&data).join(state).join("vnode").join(vnode);
            seed(
                &dir,
                &mut Corpus {
                    root: Path::new(&corpus),
                    prefix: format!("{state}-{vnode}"),
                    n: 0,
                },
            )?;
        }
    }
    Ok(())
}

struct Corpus<'a> {
    root: &'a Path,
    prefix: String,
    n: u32,
}

impl Corpus<'_> {
    fn add(&mut self, target: &str, bytes: &[u8]) -> Result<(), Box<dyn Error>> {
        let dir = self.root.join(target);
        fs::create_dir_all(&dir)?;
        self.n += 1;
        Ok(fs::write(
            dir.join(format!("{}-{}", self.prefix, self.n)),
            bytes,
        )?)
    }
}

/// An archive of two blocks, neither compressed nor encrypted.
fn archive() -> Result<Vec<u8>, Box<dyn Error>> {
    let dir = tempfile::tempdir()?;
    let path = dir.path().join("archive");
    let mut writer = repository::archive::ArchiveWriter::create(&path, false, None)?;
    writer.add(7, 1, 2, b"what a host gave")?;
    writer.add(8, 2, 3, b"")?;
    writer.finish()?;
    Ok(fs::read(path)?)
}

/// Rows of two tables with a number, a text and a DECIMAL.
fn parquet_file() -> Result<Vec<u8>, Box<dyn Error>> {
    let columns = [
        ("ts", "TIMESTAMP"),
        ("n", "INT"),
        ("v", "VARCHAR(9)"),
        ("d", "DECIMAL(30, 2)"),
    ];
    let mut schema = Schema {
        columns: Vec::new(),
        tags: Vec::new(),
        options: String::new(),
    };
    let mut cells = Vec::new();
    for (id, (name, column_type)) in (1..).zip(columns) {
        let column_type: ColumnType = column_type.parse()?;
        schema.columns.push(Column {
            name: name.to_owned(),
            column_type,
            id: Some(id.into()),
            key: false,
            coding: None,
        });
        let mut column = Cells::new(ColumnId(id), column_type.data_type);
        let width = column_type.data_type.stored_width().unwrap_or(3);
        for value in [Cell::Value(&[b'a'; 16][..width]), Cell::Null, Cell::Null] {
            column.push(value)?;
        }
        cells.push(column);
    }
    let origin = Origin {
        stable: None,
        suid: Suid(0),
        vgroup: VgId(2),
        file_set: None,
        precision: Precision::Nanoseconds,
    };
    let layout = Arc::new(Layout::new(&schema, origin)?);
    let batch = RowBatch {
        suid: Suid(0),
        tables: vec![(Uid(1), 1), (Uid(2), 2)],
        keys: [1, 1, 2].map(Key).into(),
        versions: [7, 8, 8].map(Version).into(),
        columns: cells.split_off(1),
    };
    let encoded = encode(&layout, batch, &|uid| {
        Some(if uid == Uid(1) { "d1" } else { "d2" })
    })?;
    // Columns that do not hold a value of their type are raw.
    let layout = layout.with_raw(&encoded.raw);
    let mut writer = FileWriter::over(Vec::new(), "file", "file".to_owned(), Arc::new(layout))?;
    writer.write(&encoded.batch)?;
    Ok(writer.finish()?.0)
}

fn seed(dir: &Path, corpus: &mut Corpus<'_>) -> Result<(), Box<dyn Error>> {
    let vnode_json = fs::read(dir.join("vnode.json"))?;
    let vnode = VnodeJson::parse(&vnode_json)?;
    corpus.add("vnode_json", &vnode_json)?;
    corpus.add("vnode_json", &fs::read(dir.join("../vnodes.json"))?)?;
    let current_json = fs::read(dir.join("tsdb/current.json"))?;
    corpus.add("current_json", &current_json)?;
    corpus.add(
        "checkpoint",
        br#"{"format":1,"database":"sdb","precision":"ms","window":"3600000","vnodes":[{"vgroup":2,"db_id":7,"version":25,"hash_begin":0,"hash_end":9,"file_sets":[{"fid":1972,"last_compact":0}]}],"tables":[1,2]"#,
    )?;
    for set in CurrentJson::parse(&current_json)?.file_sets {
        let logical = |entry: &FileEntry| -> Result<Vec<u8>, Box<dyn Error>> {
            let bytes = fs::read(dir.join("tsdb").join(entry.name(vnode.vgroup)))?;
            Ok(
                PagedFile::new(bytes.as_slice(), vnode.page_size, entry.size)?
                    .read("file", 0, entry.size)?,
            )
        };
        for stt in &set.stt {
            corpus.add("stt_file", &logical(stt)?)?;
        }
        let Some((head, data)) = &set.merged else {
            continue;
        };
        let bytes = logical(head)?;
        corpus.add("head_file", &bytes)?;
        let file = fuzz::pages(&bytes);
        let head = HeadFile::open(PagedFile::new(file.as_slice(), fuzz::PAGE, head.size)?)?;
        let data = logical(data)?;
        for blk in head.blks() {
            for record in head.records(blk, fuzz::LIMIT)?.iter().take(4) {
                let block = record.offset as usize..(record.offset + record.key_size) as usize;
                corpus.add("key_rows", &data[block])?;
                let block = record.offset as usize..(record.offset + record.size) as usize;
                if block.len() < 20_000 {
                    corpus.add("row_block", &data[block])?;
                }
            }
        }
    }
    // A .tomb file is a footer behind an index behind records, like a .head file.
    corpus.add(
        "tomb_file",
        &[[0; 512].as_slice(), &512i64.to_le_bytes(), &[0; 40]].concat(),
    )?;
    for entry in fs::read_dir(dir.join("wal"))? {
        let path = entry?.path();
        let name = path
            .file_name()
            .and_then(|n| n.to_str())
            .and_then(SegmentName::parse);
        let Some(name) = name else { continue };
        let bytes = fs::read(&path)?;
        let mut reader = SegmentReader::new(bytes.as_slice(), name, false)?;
        while let Ok(record) = reader.next_record() {
            let body = record.body.unwrap_or_default();
            if body.len() < 20_000 {
                let message = [&record.header.message_type.to_le_bytes(), body].concat();
                corpus.add("wal_message", &message)?;
                // FLOAT, INT, FLOAT and VARCHAR, as the recorded tables have.
                corpus.add("logged_rows", &[&[4, 6, 4, 6, 8], body].concat())?;
            }
        }
        // Targets begin at version 0; so does a segment whose first record has it.
        if name.first == Version(0) {
            corpus.add("wal_segment", &bytes[..bytes.len().min(4096)])?;
        }
    }
    for (word, n, bytes) in [
        (2u32, 3u16, &[0u8, 0, 0x31, 0, 0, 0, 0, 0, 0, 0][..]),
        (0x0200_0102, 2, &[0, 1, 0x11, 2, 4]),
        (0x0100_0302, 1, &[0, 1, 1, 0, 0, 0, 0, 0, 0, 0]),
        (0x0100_0502, 1, &[1, 0x18, 0]),
        (0x0100_0202, 1, &[1, 0x78, 0x9c]),
    ] {
        corpus.add(
            "column",
            &[&word.to_le_bytes()[..], &n.to_le_bytes(), &[0], bytes].concat(),
        )?;
    }
    Ok(())
}
