#![no_main]
//! The catalogue of a vnode: where its journal begins, in pages of 1024 bytes (u16), then the file and the journal.
use libfuzzer_sys::fuzz_target;
use tdfiles::{
    FormatError,
    meta::{Meta, TableKind},
    tdb::Tdb,
};

fuzz_target!(|data: &[u8]| {
    let Some((pages, bytes)) = data.split_first_chunk() else {
        return;
    };
    let main = usize::from(u16::from_le_bytes(*pages)) * 1024;
    let (main, journal) = bytes.split_at(main.min(bytes.len()));
    let Ok(mut meta) = Tdb::open(main, vec![journal], 1024).and_then(Meta::open) else {
        return;
    };
    let super_tables = meta.super_tables().unwrap_or_default();
    let _ = meta.tables(
        |_| true,
        |table| -> Result<(), FormatError> {
            if let TableKind::Child(child) = table.kind {
                for super_table in &super_tables {
                    if let Ok(values) = child.tags.values(&super_table.tags) {
                        assert_eq!(values.len(), super_table.tags.columns.len());
                    }
                }
            }
            Ok(())
        },
    );
    let _ = meta.schemas(|_, _| Ok::<_, FormatError>(()));
    let _ = meta.names(|_, _| Ok::<_, FormatError>(()));
});
