//! What one block holds, on its way into an archive.

use super::{
    ArchiveError, ArchiveWriter, LONGEST,
    contents::{BlockEntry, ColumnEntry, ContentEntry, PartEntry, RowsEntry},
};
use model::{DataType, OwnedValue, Value};
use rows::{
    avro::{Compression, DataFileError, FileWriter, Layout},
    sink::{Refused, RowSink, RowsOf},
};

/// Rows of so many bytes in memory become a file. Parts end where the key changes, as each stands for a window.
const PART_BYTES: usize = 32 << 20;

/// Takes what a block holds: bytes of a host, or rows. Nothing of it counts before the reader is done.
#[derive(Debug)]
pub struct BlockSink<'a> {
    archive: &'a mut ArchiveWriter,
    block: u64,
    wal: u64,
    time: i64,
    taken: Taken,
    failure: Option<ArchiveError>,
    part_bytes: usize,
}

#[derive(Debug)]
enum Taken {
    Bytes(Vec<u8>),
    Rows(Box<Rows>),
}

/// Rows that are not yet in a file, and the files of those before.
#[derive(Debug)]
struct Rows {
    of: RowsOf,
    parts: Vec<PartEntry>,
    /// The first key of the window of the part that is being gathered.
    first: i64,
    last_key: Option<i64>,
    /// Row by row.
    values: Vec<OwnedValue>,
    bytes: usize,
}

impl<'a> BlockSink<'a> {
    /// Takes what `block` holds, whose latest mark has this WAL position and this time (ns since 1970).
    pub fn new(archive: &'a mut ArchiveWriter, block: u64, wal: u64, time: i64) -> Self {
        Self {
            archive,
            block,
            wal,
            time,
            taken: Taken::Bytes(Vec::new()),
            failure: None,
            part_bytes: PART_BYTES,
        }
    }

    /// Makes parts as small as they can be.
    #[cfg(any(test, feature = "internals"))]
    pub fn every_row_is_a_part(&mut self) {
        self.part_bytes = 1;
    }

    /// Adds bytes, of whatever meaning.
    ///
    /// # Errors
    /// `Refused`: the block becomes no part of the archive, whatever the reader says.
    pub fn bytes(&mut self, bytes: &[u8]) -> Result<(), Refused> {
        match &mut self.taken {
            Taken::Bytes(taken) if taken.len().saturating_add(bytes.len()) <= LONGEST as usize => {
                taken.extend_from_slice(bytes);
                Ok(())
            }
            Taken::Bytes(_) => self.refuse("its data is longer than 1 GiB"),
            Taken::Rows(_) => self.refuse("it has rows, and bytes beside"),
        }
    }

    /// Why the sink could not take what it was given.
    pub fn failure(&mut self) -> Option<ArchiveError> {
        self.failure.take()
    }

    /// Makes what was taken a part of the archive.
    pub fn finish(mut self) -> Result<(), ArchiveError> {
        let content = match &mut self.taken {
            Taken::Bytes(bytes) => {
                let bytes = std::mem::take(bytes);
                ContentEntry::Data(self.archive.data(&bytes)?)
            }
            Taken::Rows(rows) => {
                if rows.of.table.is_some() {
                    flush(self.archive, rows, rows.of.last)?;
                }
                let columns = rows.of.columns.iter();
                ContentEntry::Rows(RowsEntry {
                    database: rows.of.database.clone(),
                    table: rows.of.table.clone(),
                    first: rows.of.first,
                    last: rows.of.last,
                    columns: columns
                        .map(|(name, data_type)| ColumnEntry {
                            name: name.clone(),
                            data_type: *data_type as i8,
                        })
                        .collect(),
                    parts: std::mem::take(&mut rows.parts),
                })
            }
        };
        self.archive.add_entry(BlockEntry {
            block: self.block,
            wal: self.wal,
            time: self.time,
            content,
        })
    }

    fn refuse(&mut self, problem: impl Into<String>) -> Result<(), Refused> {
        let problem = problem.into();
        self.failure.get_or_insert_with(|| ArchiveError::Block {
            block: self.block,
            problem: problem.clone(),
        });
        Err(Refused(problem))
    }
}

impl Drop for BlockSink<'_> {
    /// What was written of a block that was not read to its end lies in the archive all the same.
    fn drop(&mut self) {
        if let Taken::Rows(rows) = &mut self.taken {
            let files = rows.parts.drain(..).map(|part| part.file);
            self.archive.contents.unused.extend(files);
        }
    }
}

impl RowSink for BlockSink<'_> {
    fn begin(&mut self, of: &RowsOf) -> Result<(), Refused> {
        match &self.taken {
            Taken::Bytes(bytes) if bytes.is_empty() => {}
            _ => return self.refuse("it has rows, and something before them"),
        }
        self.taken = Taken::Rows(Box::new(Rows {
            of: of.clone(),
            parts: Vec::new(),
            first: of.first,
            last_key: None,
            values: Vec::new(),
            bytes: 0,
        }));
        Ok(())
    }

    fn row(&mut self, values: &[Value<'_>]) -> Result<(), Refused> {
        let Taken::Rows(rows) = &mut self.taken else {
            return self.refuse("it has a row without a table");
        };
        let key = match values.first() {
            Some(Value::Int(key)) if values.len() == rows.of.columns.len() => *key,
            _ => return self.refuse("a row does not have the columns of its table"),
        };
        if rows.last_key.is_some_and(|last| key < last) || key < rows.of.first || key > rows.of.last
        {
            return self.refuse("its rows are not those of its window, ascending by key");
        }
        if rows.bytes >= self.part_bytes && rows.last_key.is_some_and(|last| last < key) {
            if let Err(error) = flush(self.archive, rows, key - 1) {
                let words = error.to_string();
                self.failure.get_or_insert(error);
                return Err(Refused(words));
            }
            rows.first = key;
        }
        rows.last_key = Some(key);
        for value in values {
            let text = match value {
                Value::Bytes(bytes) => bytes.len(),
                _ => 0,
            };
            rows.bytes += size_of::<OwnedValue>() + text;
            rows.values.push(OwnedValue::from(*value));
        }
        match rows.bytes > LONGEST as usize {
            true => self.refuse("rows of one key take more than 1 GiB"),
            false => Ok(()),
        }
    }
}

/// Writes the rows that were gathered, which are all of the window up to `last`, to a file.
fn flush(archive: &mut ArchiveWriter, rows: &mut Rows, last: i64) -> Result<(), ArchiveError> {
    let types: Vec<DataType> = rows.of.columns.iter().map(|(_, t)| *t).collect();
    let width = types.len().max(1);
    let no_text = |(at, value): (usize, &OwnedValue)| {
        let text = types.get(at % width) == Some(&DataType::Varchar);
        let bad = matches!(value, OwnedValue::Bytes(bytes) if std::str::from_utf8(bytes).is_err());
        (text && bad).then_some(at % width)
    };
    let as_bytes = rows.values.iter().enumerate().filter_map(no_text).collect();
    let block = rows.of.block;
    let refused = |problem: String| ArchiveError::Block { block, problem };
    let layout = Layout::rows(&rows.of.database, types, as_bytes).map_err(refused)?;
    let name = archive.next_name("avro");
    let words = |error: DataFileError| refused(error.to_string());
    let mut file = FileWriter::over(Vec::new(), &name, name.clone(), &layout, Compression::Null)
        .map_err(words)?;
    let table = rows.of.table.as_deref().unwrap_or_default();
    for row in rows.values.chunks(width) {
        let value = |at: usize| row.get(at).map_or(Value::Null, OwnedValue::as_value);
        file.append(&[table], &value).map_err(words)?;
    }
    let (bytes, entry) = file.into_parts().map_err(words)?;
    archive.pack(&name, &bytes)?;
    rows.parts.push(PartEntry {
        first: rows.first,
        last,
        file: entry,
    });
    rows.values.clear();
    rows.bytes = 0;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::archive::{ArchivedBlock, Content, read};

    fn of(block: u64, table: Option<&str>) -> RowsOf {
        let columns = [
            ("ts", DataType::Timestamp),
            ("v", DataType::Varchar),
            ("u", DataType::UInt),
            ("d", DataType::Decimal64),
        ];
        RowsOf {
            block,
            first: -10,
            last: 99,
            database: "db".to_owned(),
            table: table.map(str::to_owned),
            columns: match table {
                Some(_) => columns.map(|(name, t)| (name.to_owned(), t)).to_vec(),
                None => Vec::new(),
            },
        }
    }

    fn row<'a>(key: i64, text: &'a [u8]) -> [Value<'a>; 4] {
        [
            Value::Int(key),
            Value::Bytes(text),
            Value::UInt(4_000_000_000),
            Value::Null,
        ]
    }

    /// The parts of the archive that `fill` makes.
    fn archived(fill: impl FnOnce(&mut ArchiveWriter)) -> Vec<ArchivedBlock> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        let mut writer = ArchiveWriter::create(&path, true, None).unwrap();
        fill(&mut writer);
        writer.finish().unwrap();
        let mut found = Vec::new();
        read(&path, None, &mut |block| found.push(block)).unwrap();
        found
    }

    #[test]
    fn a_large_block_is_split_where_its_key_changes_and_its_parts_make_up_its_window() {
        let keys = [-10, -10, -3, 7, 7, 7, 50];
        let found = archived(|archive| {
            let mut sink = BlockSink::new(archive, 8, 1, 2);
            sink.every_row_is_a_part();
            sink.begin(&of(8, Some("t 1"))).unwrap();
            for key in keys {
                // One text is not UTF-8: only its part has bytes.
                let text: &[u8] = if key == 7 { b"\xff" } else { b"text" };
                sink.row(&row(key, text)).unwrap();
            }
            sink.finish().unwrap();
        });
        let windows: Vec<_> = found
            .iter()
            .map(|part| {
                let rows = part.rows().unwrap();
                assert_eq!((part.block, part.wal, part.time, rows.block), (8, 1, 2, 8));
                assert_eq!(rows.table.as_deref(), Some("t 1"));
                assert_eq!(rows.columns, of(8, Some("t 1")).columns);
                (part.part, rows.first, rows.last, rows.count())
            })
            .collect();
        let expected = [
            (0, -10, -4, 2),
            (1, -3, 6, 1),
            (2, 7, 49, 3),
            (3, 50, 99, 1),
        ];
        assert_eq!(windows, expected);
        let mut read = Vec::new();
        for part in &found {
            for row in part.rows().unwrap().rows() {
                read.push(row.unwrap());
            }
        }
        let expected = keys.map(|key| {
            let text: &[u8] = if key == 7 { b"\xff" } else { b"text" };
            row(key, text).map(OwnedValue::from).to_vec()
        });
        assert_eq!(read, expected);
    }

    #[test]
    fn tables_without_rows_and_tables_that_are_gone_are_told_apart() {
        let found = archived(|archive| {
            for (block, table) in [(1, Some("t")), (2, None)] {
                let mut sink = BlockSink::new(archive, block, 0, 0);
                sink.begin(&of(block, table)).unwrap();
                sink.finish().unwrap();
            }
        });
        let mut tables = Vec::new();
        for block in &found {
            let rows = block.rows().unwrap();
            assert_eq!((rows.first, rows.last, rows.count()), (-10, 99, 0));
            assert_eq!(rows.rows().count(), 0);
            tables.push((block.block, rows.table));
        }
        tables.sort();
        assert_eq!(tables, [(1, Some("t".to_owned())), (2, None)]);
    }

    #[test]
    fn rows_that_are_not_those_of_a_window_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let mut archive = ArchiveWriter::create(&dir.path().join("a"), false, None).unwrap();
        let long = vec![Value::Int(1); 5];
        let wrong: [&[Value<'_>]; 5] = [
            &row(-11, b""),
            &row(100, b""),
            &row(4, b""),
            &long,
            &[Value::Null, Value::Null, Value::Null, Value::Null],
        ];
        for values in wrong {
            let mut sink = BlockSink::new(&mut archive, 1, 0, 0);
            assert!(sink.row(&row(5, b"")).is_err(), "there is no table yet");
            sink.failure().unwrap();
            sink.begin(&of(1, Some("t"))).unwrap();
            sink.row(&row(5, b"")).unwrap();
            assert!(sink.row(values).is_err(), "{values:?}");
            assert!(matches!(
                sink.failure(),
                Some(ArchiveError::Block { block: 1, .. })
            ));
        }
        assert_eq!(archive.blocks(), 0);
    }

    #[test]
    fn a_block_that_a_manifest_has_no_room_for_is_refused_and_the_archive_stays_readable() {
        let found = archived(|archive| {
            archive.add(1, 0, 0, b"first").unwrap();
            archive.entries_bytes = super::super::MOST_ENTRIES_BYTES;
            let mut sink = BlockSink::new(archive, 2, 0, 0);
            sink.begin(&of(2, Some("t"))).unwrap();
            sink.row(&row(5, b"x")).unwrap();
            let refused = sink.finish().unwrap_err();
            assert!(matches!(refused, ArchiveError::Block { block: 2, .. }));
            let refused = archive.add(3, 0, 0, b"third").unwrap_err().to_string();
            assert!(refused.contains("smaller batch_size"), "{refused}");
        });
        let blocks: Vec<_> = found.iter().map(|part| part.block).collect();
        assert_eq!(blocks, [1]);
    }

    #[test]
    fn what_a_block_gave_before_it_failed_is_not_used() {
        let found = archived(|archive| {
            for (block, fails) in [(1, true), (2, false), (1, false)] {
                let mut sink = BlockSink::new(archive, block, 0, 0);
                sink.every_row_is_a_part();
                sink.begin(&of(block, Some("t"))).unwrap();
                (0..3).for_each(|key| sink.row(&row(key, b"x")).unwrap());
                if !fails {
                    sink.finish().unwrap();
                }
            }
        });
        let parts: Vec<_> = found.iter().map(|part| (part.block, part.part)).collect();
        assert_eq!(parts, [(2, 0), (2, 1), (2, 2), (1, 0), (1, 1), (1, 2)]);
        assert!(
            found
                .iter()
                .all(|part| matches!(part.content, Content::Rows(_)))
        );
    }
}
