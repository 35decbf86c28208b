#![no_main]
//! A row block with all its columns.
use fuzz::LIMIT;
use libfuzzer_sys::fuzz_target;
use model::Cell;
use tdfiles::tsdb::RowBlock;

fuzz_target!(|data: &[u8]| {
    if let Ok(block) = RowBlock::parse(data, 0, LIMIT) {
        let rows = block.rows.len();
        assert!(rows <= LIMIT);
        for cells in &block.columns {
            assert_eq!(cells.len(), rows);
            for i in 0..rows {
                if let Cell::Value(value) = cells.cell(i) {
                    let width = cells.data_type.stored_width();
                    assert!(width.is_none_or(|width| width == value.len()));
                }
            }
        }
    }
});
