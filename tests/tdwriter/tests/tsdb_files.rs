//! TSDB files read back by a decoder of their own.
#![allow(missing_docs, clippy::unwrap_used)]

mod support;

use std::path::Path;

use tdwriter::{
    Pk, Row,
    codec::{DEFAULT_ALG, DISABLED, alg_word},
    tsdb::{
        DataSetWriter, DataSource, Format, Place, StoredRow, Tomb, logical_bytes,
        write_data_file_set, write_stt, write_tomb,
    },
};

fn place(dir: &Path) -> Place {
    Place::new(dir, 2, 1972, 3)
}

/// Three tables of 1000 rows; every seventh row was overwritten later.
fn rows(pk: fn(i64) -> Option<Pk>) -> Vec<StoredRow> {
    let mut out = Vec::new();
    for uid in [11, 12, 40] {
        for i in 0..1000 {
            let row = Row {
                pk: pk(i),
                value: (i % 5 != 0).then_some(i as i32),
                text: (i % 3 != 0).then(|| format!("n{i}").into_bytes()),
                ..Row::new(1_704_067_200_000 + i / 2 * 1000 + i % 13, 0)
            };
            out.push(StoredRow {
                suid: 9,
                uid,
                version: if i % 7 == 0 { 30 } else { 4 + uid },
                row,
            });
        }
    }
    out
}

fn keys(rows: &[StoredRow]) -> Vec<(i64, i64, i64)> {
    rows.iter().map(|r| (r.uid, r.version, r.row.ts)).collect()
}

#[test]
fn data_files_hold_every_row_in_every_compression() {
    let algs = [
        DEFAULT_ALG,
        0,
        1,
        2,
        alg_word(1, 1, 2),
        alg_word(2, 2, 1),
        alg_word(2, 3, 1),
        alg_word(1, 5, 1),
        alg_word(DISABLED, 1, 2),
        alg_word(2, DISABLED, 2),
        alg_word(DISABLED, DISABLED, 2),
        alg_word(0, 3, 1),
        alg_word(2, 0, 2),
        alg_word(2, 4, 2),
    ];
    let pks: [fn(i64) -> Option<Pk>; 4] = [
        |_| None,
        |i| Some(Pk::Int(i as i32)),
        |i| Some(Pk::BigInt(i << 40)),
        |i| Some(Pk::VarChar(format!("key{i:05}").into_bytes())),
    ];
    let mut formats: Vec<_> = algs
        .map(|block_alg| Format {
            block_alg,
            ..Format::default()
        })
        .into();
    for fmt_ver in [0, 1] {
        for comp in [0, 1, 2] {
            formats.push(Format {
                fmt_ver,
                comp,
                block_alg: comp.into(),
                ..Format::default()
            });
        }
    }
    for (i, base) in formats.iter().enumerate() {
        for (page_size, max_rows) in [(4096, 100), (16384, 4096)] {
            // All kinds of keys for the default, in turn for the others.
            for (_, pk) in pks
                .iter()
                .enumerate()
                .filter(|&(k, _)| i == 0 || k == i % 4)
            {
                if base.fmt_ver == 0 && pk(0).is_some() {
                    continue;
                }
                let format = Format {
                    page_size,
                    max_rows,
                    ..*base
                };
                let dir = tempfile::tempdir().unwrap();
                let rows = rows(*pk);
                let (set, records) =
                    write_data_file_set(&place(dir.path()), format, rows.clone()).unwrap();
                let (head, data) = (set.head.unwrap(), set.data.unwrap());
                let found = support::head(&place(dir.path()).path("head"), page_size, head.size);
                assert_eq!(found.len(), records.len());
                let bytes = support::logical(
                    &place(dir.path()).path("data"),
                    page_size,
                    data.size as usize,
                );
                assert_eq!(
                    support::data_rows(&found, &bytes),
                    keys(&rows),
                    "format {i}: {format:?}"
                );
                assert_eq!((head.min_version, head.max_version), (Some(15), Some(44)));
            }
        }
    }
}

#[test]
fn stt_files_hold_rows_ranges_and_deletes() {
    for max_rows in [100, 4096] {
        let format = Format {
            max_rows,
            ..Format::default()
        };
        let dir = tempfile::tempdir().unwrap();
        let mut all = rows(|_| None);
        for row in &mut all[2000..] {
            row.suid = 0;
        }
        all.rotate_left(2000);
        let tombs: Vec<_> = (0..250)
            .map(|i| Tomb {
                suid: 9,
                uid: 11,
                version: 50 + i,
                skey: i * 10,
                ekey: i * 10 + 5,
            })
            .collect();
        let entry = write_stt(&place(dir.path()), 0, format, all.clone(), &tombs).unwrap();
        let stt = support::stt(&place(dir.path()).path("stt"), 4096, entry.size);
        assert_eq!(stt.rows, keys(&all));
        assert_eq!(
            stt.tombs,
            tombs
                .iter()
                .map(|t| [t.suid, t.uid, t.version, t.skey, t.ekey])
                .collect::<Vec<_>>()
        );
        let first = 1_704_067_200_000;
        let ranges: Vec<_> = stt.ranges.iter().map(|r| (r[0], r[1], r[2])).collect();
        assert_eq!(ranges, [(0, 40, first), (9, 11, first), (9, 12, first)]);
        assert_eq!(
            (entry.min_version, entry.max_version),
            (Some(15), Some(299))
        );

        let entry = write_tomb(&place(dir.path()), format, &tombs).unwrap();
        assert_eq!(
            support::tomb(&place(dir.path()).path("tomb"), 4096, entry.size),
            stt.tombs
        );
    }
}

#[test]
fn appended_data_files_keep_their_first_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let format = Format {
        max_rows: 100,
        ..Format::default()
    };
    let all = rows(|_| None);
    let (set, records) =
        write_data_file_set(&place(dir.path()), format, all[..1500].to_vec()).unwrap();
    let (head, data, sma) = (set.head.unwrap(), set.data.unwrap(), set.sma.unwrap());
    let before = logical_bytes(&place(dir.path()).path("data"), 4096, data.size).unwrap();
    let later = Place {
        cid: 4,
        ..place(dir.path())
    };
    let source = DataSource {
        data: data.clone(),
        sma,
        head_versions: head.min_version.zip(head.max_version),
    };
    let mut w = DataSetWriter::append(&later, format, source).unwrap();
    for record in records {
        w.keep(record).unwrap();
    }
    for row in &all[1500..] {
        w.push(row.clone()).unwrap();
    }
    let (set, _) = w.finish().unwrap();
    let (head, new_data) = (set.head.unwrap(), set.data.unwrap());
    assert_eq!((head.cid, new_data.cid), (4, 3));
    let bytes = support::logical(
        &place(dir.path()).path("data"),
        4096,
        new_data.size as usize,
    );
    assert_eq!(bytes[..before.len()], before);
    let found = support::head(&later.path("head"), 4096, head.size);
    assert_eq!(support::data_rows(&found, &bytes), keys(&all));
}
