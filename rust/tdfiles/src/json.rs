//! What TDengine's JSON files share: errors with a byte offset, and numbers that stand as strings (vnode.json)
//! or as numbers (current.json).

use crate::FormatError;
use serde::{
    Deserialize, Deserializer,
    de::{DeserializeOwned, Error},
};

/// Parses a whole file.
pub(crate) fn parse<T: DeserializeOwned>(
    what: &'static str,
    bytes: &[u8],
) -> Result<T, FormatError> {
    serde_json::from_slice(bytes).map_err(|e| {
        let lines_before = bytes
            .split_inclusive(|b| *b == b'\n')
            .take(e.line().saturating_sub(1));
        let offset = lines_before.map(<[u8]>::len).sum::<usize>() + e.column().saturating_sub(1);
        FormatError::corrupt(what, offset as u64, e.to_string())
    })
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Number {
    Plain(i64),
    Text(String),
}

/// Takes either form.
pub(crate) fn number<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: TryFrom<i64>,
{
    let value = match Number::deserialize(deserializer)? {
        Number::Plain(n) => n,
        Number::Text(text) => text.parse().map_err(|_| {
            let shown: String = text.chars().take(40).collect();
            D::Error::custom(format_args!("{shown:?} is not a number"))
        })?,
    };
    T::try_from(value).map_err(|_| D::Error::custom(format_args!("{value} is out of range")))
}

/// Takes either form, or nothing at all.
pub(crate) fn optional_number<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: TryFrom<i64>,
{
    number(deserializer).map(Some)
}
