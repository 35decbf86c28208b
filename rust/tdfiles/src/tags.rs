//! Tag values of a child table.
//!
//! i8 flags (0x40 JSON, 0x20 wide index), i16 bytes in all, i16 values, i32 version of the tags; an index, i8 or i16 per value;
//! then the values one behind the other, ascending by key: {varint tag id, or in JSON string key; i8 type; value}. A value
//! of variable length is a uvarint length and its bytes; NCHAR is UCS-4. A tag that is NULL has none. (STag in
//! tdataformat.c of server 3.3.7.)
//!
//! A JSON tag has no other tag beside it: the values are the members of its object, of the types NULL (2 bytes), NCHAR,
//! DOUBLE and BOOL.

mod json;

use crate::{FormatError, Unreadable, cursor::Cursor, schema::Schema};
use model::{DataType, OwnedValue, Value};

const WHAT: &str = "tag values";
const JSON: u8 = 0x40;
const WIDE_INDEX: u8 = 0x20;
/// The type number of NULL.
const NULL: i8 = 0;

/// The tag values of one table, taken apart on demand.
#[derive(Debug, Clone, Copy)]
pub struct Tags<'a> {
    is_json: bool,
    count: usize,
    values: Cursor<'a>,
}

impl<'a> Tags<'a> {
    /// Takes what stands behind the length of the tag values.
    pub(crate) fn parse(cursor: &mut Cursor<'a>) -> Result<Self, FormatError> {
        let length = cursor.uvarint()?;
        let length = usize::try_from(length).map_err(|_| cursor.corrupt("tags are too long"))?;
        let offset = cursor.offset();
        let mut values = Cursor::new(WHAT, cursor.take(length)?, offset);
        let flags = values.u8()?;
        let stated = i16::from_le_bytes(values.array()?);
        if usize::try_from(stated) != Ok(length) {
            return Err(values.corrupt(format!("{length} bytes that say they are {stated}")));
        }
        let count = i16::from_le_bytes(values.array()?);
        let count =
            usize::try_from(count).map_err(|_| values.corrupt(format!("{count} tag values")))?;
        let _version = values.i32()?;
        values.take(if flags & WIDE_INDEX == 0 { 1 } else { 2 } * count)?;
        Ok(Self {
            is_json: flags & JSON != 0,
            count,
            values,
        })
    }

    /// The values in the order of the super table's tags. NCHAR is given as UTF-8, JSON as its text.
    pub fn values(&self, tags: &Schema) -> Result<Vec<OwnedValue>, FormatError> {
        if self.is_json {
            return Ok(vec![self.json(tags)?]);
        }
        let mut values = vec![OwnedValue::Null; tags.columns.len()];
        let mut stored = self.values;
        let mut last = None;
        for _ in 0..self.count {
            let id = stored.varint()?;
            if last.is_some_and(|last| last >= id) {
                return Err(stored.corrupt(format!("tag {id} is out of order")));
            }
            last = Some(id);
            let (data_type, value) = value(&mut stored)?;
            // The value of a tag that was dropped stays.
            let mut places = tags.columns.iter().zip(&mut values);
            let place = places.find(|(tag, _)| i64::from(tag.id.0) == id);
            if let Some((tag, place)) = place {
                let declared = tag.column_type.data_type;
                if data_type.is_some_and(|stored| stored != declared) {
                    return Err(stored.corrupt(format!("tag {id} holds no {declared}")));
                }
                *place = value;
            }
        }
        Ok(values)
    }

    fn json(&self, tags: &Schema) -> Result<OwnedValue, FormatError> {
        let mut stored = self.values;
        match tags.columns.as_slice() {
            [tag] if tag.column_type.data_type == DataType::Json => {}
            _ => return Err(stored.corrupt("JSON in a table without a JSON tag")),
        }
        if self.count == 0 {
            return Ok(OwnedValue::Null);
        }
        let mut object = json::Object::new();
        for _ in 0..self.count {
            let key = stored.string()?;
            let (data_type, value) = value(&mut stored)?;
            object
                .member(key, data_type, value.as_value())
                .map_err(|detail| stored.corrupt(detail))?;
        }
        Ok(OwnedValue::Bytes(object.end().into_bytes()))
    }
}

/// A value with its type; `None` for the type of NULL.
fn value(cursor: &mut Cursor<'_>) -> Result<(Option<DataType>, OwnedValue), FormatError> {
    let offset = cursor.offset();
    let number = cursor.i8()?;
    if number == NULL {
        cursor.take(2)?;
        return Ok((None, OwnedValue::Null));
    }
    let unknown = || FormatError::unreadable(WHAT, offset, Unreadable::ColumnType(number as u8));
    let data_type = DataType::from_code(number).ok_or_else(unknown)?;
    let value = match data_type.width() {
        Some(width) => Value::read(data_type, cursor.take(width)?)
            .ok_or_else(unknown)?
            .into(),
        None => {
            let length = cursor.uvarint()?;
            let length =
                usize::try_from(length).map_err(|_| cursor.corrupt("a tag is too long"))?;
            let bytes = cursor.take(length)?;
            OwnedValue::Bytes(match data_type {
                DataType::Nchar => {
                    utf8(bytes).ok_or_else(|| cursor.corrupt("an NCHAR that is no text"))?
                }
                DataType::Decimal | DataType::Decimal64 => return Err(unknown()),
                _ => bytes.to_vec(),
            })
        }
    };
    Ok((Some(data_type), value))
}

/// UTF-8 of UCS-4.
fn utf8(bytes: &[u8]) -> Option<Vec<u8>> {
    let (characters, []) = bytes.as_chunks::<4>() else {
        return None;
    };
    let characters = characters
        .iter()
        .map(|character| char::from_u32(u32::from_le_bytes(*character)));
    characters
        .collect::<Option<String>>()
        .map(String::into_bytes)
}
