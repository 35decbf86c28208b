//! Rows: the columns a table written by this crate has.

/// Value of a composite primary key column.
///
/// Keys of one table are all of one variant; the order between variants means nothing.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Pk {
    /// INT.
    Int(i32),
    /// BIGINT.
    BigInt(i64),
    /// VARCHAR.
    VarChar(Vec<u8>),
}

/// Type of a composite primary key column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PkType {
    /// INT.
    Int,
    /// BIGINT.
    BigInt,
    /// VARCHAR.
    VarChar,
}

impl PkType {
    /// TDengine's type number.
    pub(crate) fn code(self) -> u8 {
        match self {
            Self::Int => crate::codec::INT,
            Self::BigInt => crate::codec::BIGINT,
            Self::VarChar => crate::codec::VARCHAR,
        }
    }
}

impl Pk {
    /// The type of this value.
    pub fn kind(&self) -> PkType {
        match self {
            Self::Int(_) => PkType::Int,
            Self::BigInt(_) => PkType::BigInt,
            Self::VarChar(_) => PkType::VarChar,
        }
    }

    /// The value as little-endian bytes, or the string itself.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        match self {
            Self::Int(v) => v.to_le_bytes().to_vec(),
            Self::BigInt(v) => v.to_le_bytes().to_vec(),
            Self::VarChar(v) => v.clone(),
        }
    }
}

/// A row of the one schema this crate uses: `ts`, then the key column if there is one, `value INT`, `text VARCHAR`.
///
/// Column ids count from 1 in that order. `None` in `value` or `text` is NULL.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Row {
    /// Timestamp in database precision.
    pub ts: i64,
    /// Second part of a composite key; all rows of a table have one or none has.
    pub pk: Option<Pk>,
    /// INT column.
    pub value: Option<i32>,
    /// VARCHAR column.
    pub text: Option<Vec<u8>>,
}

impl Row {
    /// A row without composite key and text.
    pub fn new(ts: i64, value: i32) -> Self {
        Self {
            ts,
            value: Some(value),
            ..Self::default()
        }
    }

    /// The same row with a composite key.
    pub fn with_pk(self, pk: Pk) -> Self {
        Self {
            pk: Some(pk),
            ..self
        }
    }

    /// The same row with a text.
    pub fn with_text(self, text: impl Into<Vec<u8>>) -> Self {
        Self {
            text: Some(text.into()),
            ..self
        }
    }
}
