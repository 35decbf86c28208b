//! Numbers in TDengine's JSON files stand as strings (vnode.json) or as numbers (current.json).

use serde::{Deserialize, Deserializer, de::Error};

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
            D::Error::custom(format_args!(
                "{:?} is not a number",
                text.chars().take(40).collect::<String>()
            ))
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
