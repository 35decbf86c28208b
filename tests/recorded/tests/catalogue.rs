//! The recorded catalogues are what SQL said when they were recorded.

#![allow(clippy::unwrap_used)]

use capture::{
    CaptureError, DataDirs,
    catalogue::{Catalogue, Kind},
};
use flate2::read::GzDecoder;
use model::SchemaVersion;
use recorded::catalogue::lines;
use std::{
    collections::BTreeSet,
    fs,
    io::Read,
    path::{Path, PathBuf},
};
use tdfiles::{FormatError, meta::Meta, meta::TableKind, tdb::Tdb, vnode_json::VnodeJson};
use tempfile::TempDir;

fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../data/meta")
        .join(name)
}

fn unpacked(name: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let file = fs::File::open(path(&format!("{name}.gz"))).unwrap();
    GzDecoder::new(file).read_to_end(&mut bytes).unwrap();
    bytes
}

fn truth(name: &str) -> Vec<String> {
    let text = String::from_utf8(unpacked(name)).unwrap();
    text.lines().map(str::to_owned).collect()
}

/// The vnode with these journals.
fn catalogue(journals: &[(i64, Vec<u8>)]) -> Catalogue {
    catalogue_with(journals, &[]).unwrap()
}

/// The same with further files that are empty.
fn catalogue_with(journals: &[(i64, Vec<u8>)], files: &[&str]) -> Result<Catalogue, CaptureError> {
    found(&vnode_with(journals, files))
}

fn found(dir: &TempDir) -> Result<Catalogue, CaptureError> {
    let vnodes = DataDirs::new(vec![dir.path().into()])?.vnodes()?;
    vnodes[0].catalogue()
}

/// A data directory with the vnode, these journals, and further files that are empty.
fn vnode_with(journals: &[(i64, Vec<u8>)], files: &[&str]) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let config = fs::read(path("vnode.json")).unwrap();
    let vgroup = VnodeJson::parse(&config).unwrap().vgroup;
    let vnode = dir.path().join(format!("vnode/vnode{vgroup}"));
    fs::create_dir_all(vnode.join("meta")).unwrap();
    fs::create_dir_all(vnode.join("tsdb")).unwrap();
    fs::write(vnode.join("vnode.json"), config).unwrap();
    fs::write(vnode.join("meta/main.tdb"), unpacked("main.tdb")).unwrap();
    for (number, journal) in journals {
        fs::write(
            vnode.join(format!("meta/main.tdb-journal.{number}")),
            journal,
        )
        .unwrap();
    }
    for file in files {
        fs::write(vnode.join(file), b"").unwrap();
    }
    dir
}

/// Lines that only one side has.
fn differences(files: &[String], sql: &[String]) -> Vec<String> {
    let (files, sql): (BTreeSet<_>, BTreeSet<_>) = (files.iter().collect(), sql.iter().collect());
    files
        .symmetric_difference(&sql)
        .map(|line| format!("{line:.300}"))
        .collect()
}

#[test]
fn the_file_is_what_sql_said_last_and_with_the_journal_what_it_said_before() {
    let none: Vec<String> = Vec::new();
    let (first, second) = (truth("first.txt"), truth("second.txt"));
    assert!(differences(&first, &second).len() > 100);
    assert_eq!(differences(&lines(&catalogue(&[])), &second), none);
    let journal = unpacked("journal");
    assert_eq!(
        differences(&lines(&catalogue(&[(17, journal.clone())])), &first),
        none
    );
    // An open transaction that has changed nothing yet.
    assert_eq!(
        differences(&lines(&catalogue(&[(9, vec![])])), &second),
        none
    );
}

#[test]
fn a_commit_counts_once_it_has_replaced_vnode_json_and_is_not_read_while_a_server_ends_it() {
    let journals = [(17, unpacked("journal")), (18, Vec::new())];
    let under_way = catalogue_with(&journals, &["vnode_tmp.json"]).unwrap();
    assert_eq!(lines(&under_way), truth("first.txt"));
    // No server runs, so nobody will end it.
    let cut_off = catalogue_with(&journals, &[]).unwrap();
    assert_eq!(lines(&cut_off), truth("second.txt"));
    let dir = vnode_with(&journals, &[]);
    let lock = fs::File::create(dir.path().join(".running")).unwrap();
    lock.lock().unwrap();
    let ending = found(&dir);
    assert!(matches!(ending, Err(CaptureError::CommitCutOff { .. })));
}

#[test]
fn every_version_of_a_tables_columns_is_there() {
    let catalogue = catalogue(&[]);
    let current = |name: &str| {
        let found = catalogue
            .super_tables
            .values()
            .find(|table| table.name == name);
        found.unwrap().columns.clone()
    };
    let names = |suid, version| -> Vec<String> {
        let schema = &catalogue.schemas[&(suid, SchemaVersion(version))];
        schema
            .columns
            .iter()
            .map(|column| column.name.clone())
            .collect()
    };
    let altered = catalogue
        .super_tables
        .values()
        .find(|table| table.name == "altered")
        .unwrap();
    let uid = model::Uid(altered.suid.0);
    assert_eq!(names(uid, 1), ["ts", "a", "b", "c"]);
    assert_eq!(names(uid, 2), ["ts", "a", "b", "c", "d"]);
    assert_eq!(names(uid, 3), ["ts", "b", "c", "d"]);
    let last = current("altered");
    let ids: Vec<i16> = last.columns.iter().map(|column| column.id.0).collect();
    // 2 was dropped; 5 to 7, 10 and 11 are tags.
    assert_eq!(ids, [1, 3, 4, 8, 9, 12]);

    // The newest version has the columns that the table has.
    let stables = catalogue.super_tables.values();
    let stables = stables.map(|table| (model::Uid(table.suid.0), &table.columns));
    let tables = catalogue
        .tables
        .iter()
        .filter_map(|(uid, table)| match &table.kind {
            Kind::Normal { columns } => Some((*uid, columns)),
            Kind::Child { .. } => None,
        });
    for (uid, columns) in stables.chain(tables) {
        let stored = &catalogue.schemas[&(uid, columns.version)];
        let plain = |schema: &tdfiles::schema::Schema| -> Vec<_> {
            let columns = schema.columns.iter();
            columns
                .map(|column| (column.id, column.name.clone(), column.bytes))
                .collect()
        };
        assert_eq!(plain(stored), plain(columns));
    }
}

#[test]
fn the_index_of_names_has_every_table_once() {
    let bytes = unpacked("main.tdb");
    let tdb = Tdb::open(bytes.as_slice(), vec![], 4096).unwrap();
    let mut meta = Meta::open(tdb).unwrap();
    let mut by_name = BTreeSet::new();
    meta.names(|name, uid| -> Result<(), FormatError> {
        assert!(by_name.insert((name.to_str().into_owned(), uid)));
        Ok(())
    })
    .unwrap();
    let catalogue = catalogue(&[]);
    let tables = catalogue
        .tables
        .iter()
        .map(|(uid, table)| (table.name.clone(), *uid));
    let stables = catalogue.super_tables.values();
    let stables = stables.map(|table| (table.name.clone(), model::Uid(table.suid.0)));
    assert_eq!(by_name, tables.chain(stables).collect());
    assert_eq!(by_name.len(), meta.len());
}

/// Reads all there is to read.
fn read(main: &[u8], journals: Vec<&[u8]>) -> Result<usize, FormatError> {
    let mut meta = Meta::open(Tdb::open(main, journals, 1024)?)?;
    let super_tables = meta.super_tables()?;
    let mut tables = 0;
    meta.tables(
        |_| true,
        |table| -> Result<(), FormatError> {
            tables += 1;
            if let TableKind::Child(child) = table.kind {
                let of = super_tables.iter().find(|table| table.suid == child.suid);
                if let Some(of) = of {
                    child.tags.values(&of.tags)?;
                }
            }
            Ok(())
        },
    )?;
    meta.schemas(|_, _| Ok::<_, FormatError>(()))?;
    meta.names(|_, _| Ok::<_, FormatError>(()))?;
    Ok(tables)
}

#[test]
fn no_byte_that_is_wrong_and_no_cut_makes_the_reader_panic() {
    let main = fs::read(path("small.tdb")).unwrap();
    let tables = read(&main, vec![]).unwrap();
    let truth = fs::read_to_string(path("small.txt")).unwrap();
    assert_eq!(
        tables,
        truth
            .lines()
            .filter(|line| line.starts_with("table "))
            .count()
    );
    let mut changed = main.clone();
    for at in 0..main.len() {
        for value in [main[at] ^ 1 << (at % 8), 0xff] {
            changed[at] = value;
            let _ = read(&changed, vec![]);
        }
        changed[at] = main[at];
        if at % 64 == 0 {
            // A journal is just as hostile.
            let _ = read(&main, vec![&changed[at..]]);
            let _ = read(&main[..at], vec![]);
        }
    }
}

#[test]
fn a_page_that_lacks_an_entry_is_noticed() {
    let dir = vnode_with(&[], &[]);
    let whole = found(&dir).unwrap();
    assert_eq!(whole.contradiction, None);
    let vnode = format!("vnode/vnode{}", whole.vnode.vgroup);
    let file = dir.path().join(vnode).join("meta/main.tdb");
    let (bytes, page_size) = (fs::read(&file).unwrap(), whole.vnode.meta_page_size);
    let (mut refused, mut contradictions) = (0, 0);
    for page in (0..bytes.len()).step_by(page_size) {
        // Behind the flags, and in an inner node behind the number of its last child.
        let count = page + if bytes[page] & 2 == 0 { 5 } else { 1 };
        if bytes[count..count + 2] == [0, 0] {
            continue;
        }
        let mut damaged = bytes.clone();
        let cells = u16::from_le_bytes([bytes[count], bytes[count + 1]]) - 1;
        damaged[count..count + 2].copy_from_slice(&cells.to_le_bytes());
        fs::write(&file, damaged).unwrap();
        match found(&dir) {
            Err(_) => refused += 1,
            Ok(read) if read.contradiction.is_some() => contradictions += 1,
            Ok(read) => assert_eq!(
                (&read.tables, &read.super_tables),
                (&whole.tables, &whole.super_tables),
                "page at {page}"
            ),
        }
    }
    assert!(refused > 0 && contradictions > 0);
}
