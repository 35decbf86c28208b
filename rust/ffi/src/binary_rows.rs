//! The rows of a block in the binary form that C gets: from `read_data_block`, and from `backup_archive_read` for the blocks
//! of a followed server. It is written nowhere else, and no file has it any more; docs/c-api.md describes it.

use model::{DataType, Value};
use repository::archive::{ArchivedBlock, Content, LONGEST};
use rows::{
    block::NoBlockRows,
    sink::{Refused, RowSink, RowsOf},
};

const MAGIC: &[u8; 8] = b"IBROWS2\0";

/// C is told how many bytes there are in 32 bits, of which the checksum takes four bytes.
const MOST_BYTES: usize = u32::MAX as usize - 4;

/// Gathers rows.
#[derive(Debug, Default)]
pub(crate) struct BinaryRows {
    /// Everything before the number of rows.
    head: Vec<u8>,
    types: Vec<DataType>,
    count: u64,
    rows: Vec<u8>,
}

impl BinaryRows {
    /// The binary form. Empty if there were no rows of anything.
    pub(crate) fn finish(self) -> Vec<u8> {
        let mut bytes = self.head;
        if bytes.is_empty() {
            return bytes;
        }
        bytes.extend(self.count.to_le_bytes());
        bytes.extend(self.rows);
        let checksum = crc32c::crc32c(&bytes);
        bytes.extend(checksum.to_le_bytes());
        bytes
    }

    fn length(&self) -> usize {
        self.head.len() + size_of::<u64>() + self.rows.len()
    }

    /// Adds the rows of the part that follows, which ends at the key `last`.
    fn extend(&mut self, part: &Self, last: i64) {
        self.count += part.count;
        self.rows.extend_from_slice(&part.rows);
        if let Some(place) = self.head.get_mut(LAST_KEY) {
            place.copy_from_slice(&last.to_le_bytes());
        }
    }
}

/// Where the window's last key stands: behind magic, block and first key.
const LAST_KEY: std::ops::Range<usize> = 24..32;

fn name(bytes: &mut Vec<u8>, name: &str) -> Result<(), Refused> {
    let length = u16::try_from(name.len()).map_err(|_| {
        Refused("it has a column or table with a name of more than 65535 bytes".to_owned())
    })?;
    bytes.extend(length.to_le_bytes());
    bytes.extend(name.as_bytes());
    Ok(())
}

impl RowSink for BinaryRows {
    fn begin(&mut self, of: &RowsOf) -> Result<(), Refused> {
        let mut head = MAGIC.to_vec();
        head.extend(of.block.to_le_bytes());
        head.extend(of.first.to_le_bytes());
        head.extend(of.last.to_le_bytes());
        name(&mut head, &of.database)?;
        name(&mut head, of.table.as_deref().unwrap_or_default())?;
        head.extend((of.columns.len() as u32).to_le_bytes());
        for (column, data_type) in &of.columns {
            head.push(*data_type as i8 as u8);
            name(&mut head, column)?;
        }
        let types = of.columns.iter().map(|(_, data_type)| *data_type);
        *self = Self {
            head,
            types: types.collect(),
            ..Self::default()
        };
        Ok(())
    }

    fn row(&mut self, values: &[Value<'_>]) -> Result<(), Refused> {
        for (data_type, value) in self.types.iter().zip(values) {
            push(&mut self.rows, *data_type, *value);
        }
        self.count += 1;
        match self.length() > MOST_BYTES {
            true => Err(Refused(
                "it has more than 4 GiB of rows; read its window by smaller spans".to_owned(),
            )),
            false => Ok(()),
        }
    }
}

/// The parts of archived blocks, as C gets them: a block at a time, or, where its rows take more than 1 GiB, as many parts
/// at a time as fit, each with a window of its own.
#[derive(Default)]
pub(crate) struct Joined {
    /// A block with its position and time.
    of: (u64, u64, i64),
    rows: Option<BinaryRows>,
}

/// What C gets of a block: its id, WAL position and time, and its data.
pub(crate) type Visit<'a> = dyn FnMut((u64, u64, i64), &[u8]) + 'a;

impl Joined {
    /// Takes the next part, and visits what is complete with it.
    pub(crate) fn add(
        &mut self,
        part: &ArchivedBlock,
        visit: &mut Visit<'_>,
    ) -> Result<(), NoBlockRows> {
        let of = (part.block, part.wal, part.time);
        let file = match &part.content {
            Content::Bytes(bytes) => {
                self.end(visit);
                visit(of, bytes);
                return Ok(());
            }
            Content::Rows(file) => file,
        };
        let mut rows = BinaryRows::default();
        let refused = |refused: Refused| NoBlockRows::from(refused.0);
        rows.begin(&file.of).map_err(refused)?;
        for row in file.rows()?.rows() {
            let row = row?;
            let values: Vec<Value<'_>> = row.iter().map(|value| value.as_value()).collect();
            rows.row(&values).map_err(refused)?;
        }
        match &mut self.rows {
            Some(joined)
                if part.part > 0
                    && self.of == of
                    && joined.length() + rows.rows.len() <= LONGEST as usize =>
            {
                joined.extend(&rows, file.of.last);
            }
            _ => {
                self.end(visit);
                (self.of, self.rows) = (of, Some(rows));
            }
        }
        Ok(())
    }

    /// Visits what is left.
    pub(crate) fn end(&mut self, visit: &mut Visit<'_>) {
        if let Some(rows) = self.rows.take() {
            visit(self.of, &rows.finish());
        }
    }
}

/// Appends length and bytes of a value.
fn push(bytes: &mut Vec<u8>, data_type: DataType, value: Value<'_>) {
    let mut number = [0; 8];
    let width = data_type.width().unwrap_or(8).min(8);
    let value: &[u8] = match value {
        Value::Null => {
            bytes.extend(u32::MAX.to_le_bytes());
            return;
        }
        Value::Bool(value) => {
            number[0] = value.into();
            &number[..1]
        }
        Value::Int(value) => {
            number = value.to_le_bytes();
            &number[..width]
        }
        Value::UInt(value) => {
            number = value.to_le_bytes();
            &number[..width]
        }
        Value::Float(value) => {
            number[..4].copy_from_slice(&value.to_le_bytes());
            &number[..4]
        }
        Value::Double(value) => {
            number = value.to_le_bytes();
            &number
        }
        Value::Bytes(value) => value,
    };
    bytes.extend((value.len() as u32).to_le_bytes());
    bytes.extend(value);
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::OwnedValue;
    use rows::{
        avro::{Compression, FileWriter, Layout},
        block::{BlockRows, RowsFile},
    };

    #[test]
    fn values_are_written_in_their_columns_width() {
        let written = |data_type, value| {
            let mut bytes = Vec::new();
            push(&mut bytes, data_type, value);
            bytes
        };
        assert_eq!(
            written(DataType::TinyInt, Value::Int(-2)),
            [1, 0, 0, 0, 254]
        );
        assert_eq!(
            written(DataType::UInt, Value::UInt(258)),
            [4, 0, 0, 0, 2, 1, 0, 0]
        );
        assert_eq!(written(DataType::Bool, Value::Bool(true)), [1, 0, 0, 0, 1]);
        assert_eq!(written(DataType::Float, Value::Float(0.5)).len(), 8);
        assert_eq!(written(DataType::Double, Value::Double(0.5)).len(), 12);
        assert_eq!(written(DataType::Timestamp, Value::Int(1)).len(), 12);
        assert_eq!(
            written(DataType::Varchar, Value::Bytes(b"a\0")),
            [2, 0, 0, 0, b'a', 0]
        );
        assert_eq!(written(DataType::Nchar, Value::Null), [255; 4]);
    }

    fn of(first: i64, last: i64) -> RowsOf {
        RowsOf {
            block: 7 << 32 | 9,
            first,
            last,
            database: "db".to_owned(),
            table: Some("t 1".to_owned()),
            columns: vec![
                ("ts".to_owned(), DataType::Timestamp),
                ("v".to_owned(), DataType::Varchar),
            ],
        }
    }

    /// A part of an archived block, with rows of these keys.
    fn part(number: usize, first: i64, last: i64, keys: &[i64]) -> ArchivedBlock {
        let of = of(first, last);
        let types: Vec<_> = of.columns.iter().map(|(_, t)| *t).collect();
        let layout = Layout::rows("db", types, Default::default()).unwrap();
        let mut file = FileWriter::over(
            Vec::new(),
            "a part",
            "a part".to_owned(),
            &layout,
            Compression::Null,
        )
        .unwrap();
        for key in keys {
            let value = |at: usize| [Value::Int(*key), Value::Bytes(b"text")][at];
            file.append(&["t 1"], &value).unwrap();
        }
        let (bytes, entry) = file.into_parts().unwrap();
        ArchivedBlock {
            block: of.block,
            wal: 3,
            time: -4,
            part: number,
            content: Content::Rows(RowsFile {
                of,
                count: entry.rows,
                bytes,
            }),
        }
    }

    #[test]
    fn the_parts_of_a_block_are_one_for_c() {
        let mut joined = Joined::default();
        let mut seen = Vec::new();
        let mut visit = |of: (u64, u64, i64), bytes: &[u8]| seen.push((of, bytes.to_vec()));
        joined.add(&part(0, 0, 4, &[1, 2]), &mut visit).unwrap();
        joined.add(&part(1, 5, 9, &[5]), &mut visit).unwrap();
        joined.add(&part(0, 10, 19, &[]), &mut visit).unwrap();
        joined.end(&mut visit);
        assert_eq!(seen.len(), 2);
        assert_eq!(seen[0].0, (7 << 32 | 9, 3, -4));
        let rows = BlockRows::decode(&seen[0].1).unwrap();
        assert_eq!((rows.block, rows.first, rows.last), (7 << 32 | 9, 0, 9));
        assert_eq!(rows.table.as_deref(), Some("t 1"));
        let keys = rows.rows().map(|row| row.unwrap()[0].clone());
        assert_eq!(keys.collect::<Vec<_>>(), [1, 2, 5].map(OwnedValue::Int));
        let rows = BlockRows::decode(&seen[1].1).unwrap();
        assert_eq!((rows.first, rows.last, rows.count()), (10, 19, 0));
    }

    #[test]
    fn a_table_that_is_gone_has_no_columns() {
        let mut rows = BinaryRows::default();
        let gone = RowsOf {
            table: None,
            columns: Vec::new(),
            ..of(0, 1)
        };
        rows.begin(&gone).unwrap();
        let bytes = rows.finish();
        let gone = BlockRows::decode(&bytes).unwrap();
        assert_eq!((gone.count(), gone.table), (0, None));
        assert!(BinaryRows::default().finish().is_empty());
    }
}
