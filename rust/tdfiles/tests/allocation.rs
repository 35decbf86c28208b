//! Hostile bytes don't make a parser take memory: its peak stays below a small multiple of the input plus what
//! the stated row limit allows.

#![allow(clippy::unwrap_used)]

use cap::Cap;
use model::{
    ColumnId, DataType, KeySpan, SchemaVersion, Version,
    catalogue::{ColumnSize, ColumnType},
};
use proptest::prelude::*;
use std::{alloc::System, fs, path::Path};
use tdfiles::{
    FormatError,
    current_json::CurrentJson,
    meta::{Meta, TableKind},
    schema::{Column, ColumnFlags, Schema},
    tdb::Tdb,
    tsdb::{HeadFile, KeyRows, PagedFile, SttFile},
    vnode_json::VnodeJson,
    wal::{LoggedRows, Message, SegmentName, SegmentReader},
};
use tdwriter::{
    Pk, Row,
    codec::alg_word,
    tsdb::{Format, StoredRow, encode_block},
};

#[global_allocator]
static ALLOCATOR: Cap<System> = Cap::new(System, usize::MAX);

const MAX_ROWS: usize = 4096;
const MAX_CELLS: usize = 3 * MAX_ROWS;
/// The log reader's buffer; 15 columns and the rows made of them at the row limit; what a decompressor may keep to
/// look back at.
const ALLOWANCE: usize = 256 * 1024 + MAX_ROWS * 8 * 15 + MAX_ROWS * 100 + 2 * (8 << 20);

/// How far `parse` raises the process's peak, counted from what is in use now; 0 if it stays below the peak so
/// far. This is the only test in its process, and an earlier peak was itself below the bound.
fn peak_of(parse: impl FnOnce()) -> usize {
    let before = ALLOCATOR.allocated();
    let max_before = ALLOCATOR.max_allocated();
    parse();
    let max = ALLOCATOR.max_allocated();
    if max > max_before { max - before } else { 0 }
}

fn recorded(file: &str) -> Vec<u8> {
    let dir =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/data/incr_flushed/vnode/vnode2");
    fs::read(dir.join(file)).unwrap()
}

fn logical(file: &str) -> Vec<u8> {
    let bytes = recorded(file);
    let size = (bytes.len() / 4096 * 4092) as u64;
    let size = match file {
        "tsdb/v2f1972ver4.stt" => 10_057,
        "tsdb/v2f1972ver3.head" => 1_015,
        _ => size,
    };
    PagedFile::new(bytes.as_slice(), 4096, size)
        .unwrap()
        .read("file", 0, size)
        .unwrap()
}

fn pages(logical: &[u8]) -> Vec<u8> {
    logical
        .chunks(4092)
        .flat_map(|chunk| {
            let mut page = chunk.to_vec();
            page.resize(4092, 0);
            let checksum = crc32c::crc32c(&page);
            page.extend(checksum.to_le_bytes());
            page
        })
        .collect()
}

/// The header and key part of a block whose rows have text in their keys, packed in one of the ways there are.
fn text_keys(second_stage: u8) -> Vec<u8> {
    let rows: Vec<StoredRow> = (0..500)
        .map(|i| StoredRow {
            suid: 1,
            uid: 2,
            version: 3,
            row: Row::new(i, 0).with_pk(Pk::VarChar(format!("key {i}").into_bytes())),
        })
        .collect();
    let format = Format {
        block_alg: alg_word(2, second_stage, 2),
        ..Format::default()
    };
    let block = encode_block(&rows, false, &format);
    block.bytes[..block.key_size as usize].to_vec()
}

/// Parses every place of `bytes` that could be the body of a submit as one, with the values of its rows.
fn parse_rows(bytes: &[u8]) {
    const SUBMIT: [u8; 2] = 513i16.to_le_bytes();
    let columns = [DataType::Timestamp, DataType::Decimal, DataType::Varchar];
    let columns = columns.iter().zip(1..).map(|(data_type, id)| Column {
        id: ColumnId(id),
        name: String::new(),
        column_type: ColumnType {
            data_type: *data_type,
            size: ColumnSize::Fixed,
        },
        bytes: 0,
        flags: ColumnFlags(0),
        coding: None,
    });
    let schema = Schema {
        version: SchemaVersion(1),
        columns: columns.collect(),
    };
    for at in 0..bytes.len().saturating_sub(56) {
        // In a record's header the type stands 20 bytes before the body.
        if bytes[at..at + 2] != SUBMIT {
            continue;
        }
        let Ok(Message::Submit(tables)) = Message::decode(513, &bytes[at + 20..], 0) else {
            continue;
        };
        for request in tables {
            let mut rows = LoggedRows::new(request.table, MAX_CELLS);
            if rows
                .add(Version(1), &request, &schema, KeySpan::ALL)
                .is_ok()
            {
                let _ = rows.into_block();
            }
        }
    }
}

/// Parses `bytes` as everything they could be.
fn parse(bytes: &[u8], paged: &[u8]) {
    let _ = VnodeJson::parse(bytes);
    let _ = CurrentJson::parse(bytes);
    let _ = KeyRows::parse(bytes, 0, MAX_ROWS);
    for message_type in [513i16, 515, 517, 519, 531, 579, 581, 593] {
        let _ = Message::decode(message_type, bytes, 0);
    }
    parse_rows(bytes);
    if let Ok(mut reader) = SegmentReader::new(bytes, SegmentName { first: Version(26) }, false) {
        while let Ok(record) = reader.next_record() {
            let body = record.body.unwrap_or_default();
            let _ = Message::decode(record.header.message_type, body, 0);
        }
    }
    if let Ok(mut meta) = Tdb::open(bytes, vec![bytes], 1024).and_then(Meta::open) {
        let super_tables = meta.super_tables().unwrap_or_default();
        let _ = meta.tables(
            |_| true,
            |table| {
                if let (TableKind::Child(child), Some(of)) = (table.kind, super_tables.first()) {
                    let _ = child.tags.values(&of.tags);
                }
                Ok::<_, FormatError>(())
            },
        );
        let _ = meta.schemas(|_, _| Ok::<_, FormatError>(()));
    }
    let size = bytes.len() as u64;
    if let Ok(head) = PagedFile::new(paged, 4096, size).and_then(HeadFile::open) {
        for blk in head.blks() {
            let _ = head.records(blk, MAX_ROWS);
        }
    }
    if let Ok(stt) = PagedFile::new(paged, 4096, size).and_then(SttFile::open) {
        for blk in stt.blks() {
            let _ = stt.key_rows(blk, MAX_ROWS);
        }
        for blk in stt.statis_blks() {
            let _ = stt.statis(blk, MAX_ROWS);
        }
        for blk in stt.tomb_blks() {
            let _ = stt.tombs(blk, MAX_ROWS);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, ..ProptestConfig::default() })]

    #[test]
    fn changed_bytes_do_not_make_a_parser_take_memory(
        which in 0..10u8,
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u64>(), 1..9usize), 1..6),
    ) {
        let mut bytes = match which {
            0 => recorded("wal/00000000000000000026.log"),
            1 => logical("tsdb/v2f1972ver4.stt"),
            2 => logical("tsdb/v2f1972ver3.head"),
            3 => recorded("vnode.json"),
            4 => recorded("tsdb/current.json"),
            9 => recorded("../../../meta/small.tdb"),
            lz4_zlib_zstd_xz => text_keys([1, 2, 3, 5][usize::from(lz4_zlib_zstd_xz - 5)]),
        };
        for (at, value, width) in &changes {
            let at = at.index(bytes.len());
            let end = (at + width).min(bytes.len());
            bytes[at..end].copy_from_slice(&value.to_le_bytes()[..end - at]);
        }
        let paged = pages(&bytes);
        let peak = peak_of(|| parse(&bytes, &paged));
        prop_assert!(peak <= 512 * bytes.len() + ALLOWANCE, "{peak} bytes for an input of {}", bytes.len());
    }
}
