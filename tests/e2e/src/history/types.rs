//! The data types that a column or tag can have, with random values of them. No BLOB: server 3.3.7.5 gives other
//! values back than it was given, and not the same ones each time.

use crate::Cell;
use rand::{
    Rng,
    rngs::StdRng,
    seq::{IndexedRandom, IteratorRandom},
};

/// A data type with its width.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum DataType {
    Bool,
    TinyInt,
    SmallInt,
    Int,
    BigInt,
    UTinyInt,
    USmallInt,
    UInt,
    UBigInt,
    Float,
    Double,
    Timestamp,
    Varchar(usize),
    Nchar(usize),
    Varbinary(usize),
    Geometry(usize),
    Decimal(usize, usize),
    Json,
}

const TEXTS: [&str; 14] = [
    "",
    " ",
    "a",
    "it's",
    "say \"hi\"",
    "back\\slash",
    "line\nline\r\ttab",
    "涛思数据",
    "🚀é",
    "`x`",
    "NULL",
    "%s %d ,;|",
    "-- #!",
    "\u{7f}\u{1}",
];

/// A point in WKB: byte order, kind and two doubles.
const POINT_BYTES: usize = 21;

impl DataType {
    /// Any type; of a tag only those that tags can have beside others.
    pub(super) fn random(rng: &mut StdRng, tag: bool) -> Self {
        let width = *[1, 2, 7, 20, 60, 300].choose(rng).unwrap_or(&9);
        match rng.random_range(0..if tag { 16 } else { 18 }) {
            0 => Self::Bool,
            1 => Self::TinyInt,
            2 => Self::SmallInt,
            3 => Self::Int,
            4 => Self::BigInt,
            5 => Self::UTinyInt,
            6 => Self::USmallInt,
            7 => Self::UInt,
            8 => Self::UBigInt,
            9 => Self::Float,
            10 => Self::Double,
            11 => Self::Timestamp,
            12 => Self::Varchar(width),
            13 => Self::Nchar(width),
            14 => Self::Varbinary(width),
            15 => Self::Geometry(POINT_BYTES + width),
            16 => Self::Decimal(18, rng.random_range(0..9)),
            _ => Self::Decimal(38, rng.random_range(0..20)),
        }
    }

    /// A type that the second half of a key can have.
    pub(super) fn random_key(rng: &mut StdRng, dialect: super::Dialect) -> Self {
        let kinds = if dialect.before_3_3_7 { 4 } else { 5 };
        match rng.random_range(0..kinds) {
            0 => Self::Int,
            1 => Self::BigInt,
            2 => Self::UInt,
            3 => Self::UBigInt,
            _ => Self::Varchar(12),
        }
    }

    pub(super) fn sql(self) -> String {
        match self {
            Self::Bool => "bool".to_owned(),
            Self::TinyInt => "tinyint".to_owned(),
            Self::SmallInt => "smallint".to_owned(),
            Self::Int => "int".to_owned(),
            Self::BigInt => "bigint".to_owned(),
            Self::UTinyInt => "tinyint unsigned".to_owned(),
            Self::USmallInt => "smallint unsigned".to_owned(),
            Self::UInt => "int unsigned".to_owned(),
            Self::UBigInt => "bigint unsigned".to_owned(),
            Self::Float => "float".to_owned(),
            Self::Double => "double".to_owned(),
            Self::Timestamp => "timestamp".to_owned(),
            Self::Varchar(width) => format!("varchar({width})"),
            Self::Nchar(width) => format!("nchar({width})"),
            Self::Varbinary(width) => format!("varbinary({width})"),
            Self::Geometry(width) => format!("geometry({width})"),
            Self::Decimal(precision, scale) => format!("decimal({precision}, {scale})"),
            Self::Json => "json".to_owned(),
        }
    }

    /// Its number in taos.h.
    pub(super) fn code(self) -> u8 {
        match self {
            Self::Bool => 1,
            Self::TinyInt => 2,
            Self::SmallInt => 3,
            Self::Int => 4,
            Self::BigInt => 5,
            Self::Float => 6,
            Self::Double => 7,
            Self::Varchar(_) => 8,
            Self::Timestamp => 9,
            Self::Nchar(_) => 10,
            Self::UTinyInt => 11,
            Self::USmallInt => 12,
            Self::UInt => 13,
            Self::UBigInt => 14,
            Self::Json => 15,
            Self::Varbinary(_) => 16,
            Self::Decimal(precision, _) if precision > 18 => 17,
            Self::Decimal(..) => 21,
            Self::Geometry(_) => 20,
        }
    }

    /// The next width that a column can be widened to, if it has one.
    pub(super) fn wider(self) -> Option<Self> {
        match self {
            Self::Varchar(width) => Some(Self::Varchar(width + 1)),
            Self::Nchar(width) => Some(Self::Nchar(width + 1)),
            Self::Varbinary(width) => Some(Self::Varbinary(width + 1)),
            Self::Geometry(width) => Some(Self::Geometry(width + 1)),
            _ => None,
        }
    }

    /// A value, NULL now and then.
    pub(super) fn value(self, rng: &mut StdRng) -> Cell {
        if rng.random_ratio(1, 8) {
            Cell::Null
        } else {
            self.no_null(rng)
        }
    }

    /// A value that is not NULL.
    pub(super) fn no_null(self, rng: &mut StdRng) -> Cell {
        let signed = |rng: &mut StdRng, bits: u32| {
            let most = i64::MAX >> (64 - bits);
            let least = -most - 1;
            let any = [least, most, 0, -1, rng.random_range(least..=most)];
            Cell::Int(any.into_iter().choose(rng).unwrap_or(0))
        };
        let unsigned = |rng: &mut StdRng, bits: u32| {
            let most = u64::MAX >> (64 - bits);
            let any = [0, most, most / 2 + 1, rng.random_range(0..=most)];
            Cell::Unsigned(any.into_iter().choose(rng).unwrap_or(0))
        };
        match self {
            Self::Bool => Cell::Bool(rng.random()),
            Self::TinyInt => signed(rng, 8),
            Self::SmallInt => signed(rng, 16),
            Self::Int => signed(rng, 32),
            Self::BigInt => signed(rng, 64),
            Self::UTinyInt => unsigned(rng, 8),
            Self::USmallInt => unsigned(rng, 16),
            Self::UInt => unsigned(rng, 32),
            Self::UBigInt => unsigned(rng, 64),
            Self::Float => {
                let some = rng.random_range(-1e6..1e6);
                let any = [0.0, -0.0, f32::MAX, f32::MIN, f32::MIN_POSITIVE, 0.1, some];
                Cell::Float(any.choose(rng).unwrap_or(&some).to_bits())
            }
            Self::Double => {
                let some = rng.random_range(-1e9..1e9);
                let any = [0.0, -0.0, f64::MAX, f64::MIN, f64::MIN_POSITIVE, 0.1, some];
                Cell::Double(any.choose(rng).unwrap_or(&some).to_bits())
            }
            Self::Timestamp => match signed(rng, 62) {
                Cell::Int(value) => Cell::Time(value),
                other => other,
            },
            Self::Varchar(width) => Cell::Text(text(rng, |text| text.len() <= width)),
            Self::Nchar(width) => Cell::Text(text(rng, |text| text.chars().count() <= width)),
            Self::Varbinary(width) => Cell::Bytes(bytes(rng, width)),
            Self::Geometry(_) => {
                let mut point = vec![1, 1, 0, 0, 0];
                let mut half = || f64::from(rng.random_range(-1_000..1_000)) / 8.0;
                for _ in 0..2 {
                    point.extend(half().to_le_bytes());
                }
                Cell::Bytes(point)
            }
            Self::Decimal(precision, scale) => {
                // Leading zeros count as digits, so none.
                let digits: String = (0..rng.random_range(0..=precision - scale))
                    .map(|_| char::from(b'1' + rng.random_range(0..9)))
                    .collect();
                let whole = if digits.is_empty() { "0" } else { &digits };
                let sign = if rng.random() { "-" } else { "" };
                let part = if scale > 0 { ".5" } else { "" };
                Cell::Decimal(format!("{sign}{whole}{part}"))
            }
            Self::Json => {
                let any = [
                    "{\"a\":1}".to_owned(),
                    format!("{{\"k\":\"涛\",\"n\":{}}}", rng.random_range(-9..9)),
                    "{\"b\":true,\"c\":null,\"d\":1.5}".to_owned(),
                ];
                Cell::Text(any.choose(rng).cloned().unwrap_or_default().into_bytes())
            }
        }
    }

    /// A value that needs binding, because SQL has no words for it.
    pub(super) fn unspeakable(self, rng: &mut StdRng) -> Option<Cell> {
        match self {
            Self::Float => {
                let any = [f32::NAN, -f32::NAN, f32::INFINITY, f32::NEG_INFINITY];
                any.choose(rng).map(|value| Cell::Float(value.to_bits()))
            }
            Self::Double => {
                let any = [f64::NAN, -f64::NAN, f64::INFINITY, f64::NEG_INFINITY];
                any.choose(rng).map(|value| Cell::Double(value.to_bits()))
            }
            Self::Varchar(width) if width > 2 => Some(Cell::Text(b"a\0b".to_vec())),
            _ => None,
        }
    }

    /// A value as SQL.
    pub(super) fn literal(self, cell: &Cell) -> String {
        match (self, cell) {
            (Self::Geometry(_), Cell::Bytes(wkb)) => {
                let half = |at: usize| {
                    let bytes = wkb.get(at..at + 8).and_then(|bytes| bytes.try_into().ok());
                    f64::from_le_bytes(bytes.unwrap_or_default())
                };
                format!("'POINT({} {})'", half(5), half(13))
            }
            _ => cell.literal(),
        }
    }
}

/// A text that fits.
fn text(rng: &mut StdRng, fits: impl Fn(&str) -> bool) -> Vec<u8> {
    let some: String = (0..rng.random_range(0..60))
        .map(|_| char::from(rng.random_range(b' '..=b'z')))
        .collect();
    let mut any: Vec<&str> = TEXTS.iter().copied().filter(|text| fits(text)).collect();
    if fits(&some) {
        any.push(&some);
        any.push(&some);
    }
    any.choose(rng).unwrap_or(&"").as_bytes().to_vec()
}

fn bytes(rng: &mut StdRng, most: usize) -> Vec<u8> {
    let length = rng.random_range(0..=most);
    (0..length).map(|_| rng.random()).collect()
}
