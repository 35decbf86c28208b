//! The numbers TDengine gives to things, one type each, so that they can't be mixed up.

use serde::{Deserialize, Serialize};
use std::fmt;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

id!(
    /// A version: the index of a request in the WAL (the raft index) of one vgroup. Every row and every
    /// tombstone on disk carries the version of the request that wrote it.
    Version(i64)
);
id!(
    /// The unique id of a child or normal table. A table that is dropped and created again gets a new one.
    Uid(i64)
);
id!(
    /// The unique id of a super table; 0 for the rows of normal tables.
    Suid(i64)
);
id!(
    /// The id of a vgroup (and of its vnode on each dnode).
    VgId(i32)
);
id!(
    /// The id of a database. Dropping and creating a database of the same name gives a new one.
    DbId(i64)
);
id!(
    /// The number of a TSDB file set; each covers one range of keys (`DURATION` long).
    FileSetId(i32)
);
id!(
    /// The number of a table's schema; every change to its columns gives the next one.
    SchemaVersion(i32)
);
id!(
    /// A row's timestamp, in ticks of the database's precision.
    Key(i64)
);

/// The random name of a link.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct LinkId(pub String);

impl fmt::Display for LinkId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Version {
    /// Before the first request: every change is later than this.
    pub const BEGINNING: Self = Self(-1);

    /// The version of the request after this one.
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }

    /// The version of the request before this one.
    pub fn previous(self) -> Self {
        Self(self.0.saturating_sub(1))
    }
}

/// A table: its own id and that of its super table (0 for a normal table).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TableId {
    /// The super table, 0 for a normal table.
    pub suid: Suid,
    /// The table.
    pub uid: Uid,
}

/// A closed range of keys, in ticks of the database's precision. As JSON it is `[first, last]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(from = "(Key, Key)", into = "(Key, Key)")]
pub struct KeySpan {
    /// The first key in the range.
    pub first: Key,
    /// The last key in the range.
    pub last: Key,
}

impl From<(Key, Key)> for KeySpan {
    fn from((first, last): (Key, Key)) -> Self {
        Self { first, last }
    }
}

impl From<KeySpan> for (Key, Key) {
    fn from(span: KeySpan) -> Self {
        (span.first, span.last)
    }
}

impl KeySpan {
    /// Every key there can be.
    pub const ALL: Self = Self {
        first: Key(i64::MIN),
        last: Key(i64::MAX),
    };

    /// The range that holds `key` and nothing else.
    pub fn at(key: Key) -> Self {
        Self {
            first: key,
            last: key,
        }
    }

    /// The smallest range that holds both.
    pub fn hull(self, other: Self) -> Self {
        Self {
            first: self.first.min(other.first),
            last: self.last.max(other.last),
        }
    }

    /// Joins `next`, which begins no earlier, to this range if no key lies between them; tells whether it did.
    pub fn join_touching(&mut self, next: Self) -> bool {
        let touching = next.first.0 <= self.last.0.saturating_add(1);
        if touching {
            *self = self.hull(next);
        }
        touching
    }

    /// The same keys in as few ranges as possible, ascending.
    pub fn joined(mut spans: Vec<Self>) -> Vec<Self> {
        spans.sort_unstable();
        spans.dedup_by(|next, span| span.join_touching(*next));
        spans
    }

    /// The keys of `spans` that do not lie in this range; both ascending.
    pub fn cut_from(self, spans: &[Self]) -> Vec<Self> {
        let mut rest = Vec::with_capacity(spans.len() + 1);
        for span in spans {
            if !span.overlaps(self) {
                rest.push(*span);
                continue;
            }
            if span.first < self.first {
                let last = Key(self.first.0 - 1);
                rest.push(Self {
                    first: span.first,
                    last,
                });
            }
            if span.last > self.last {
                let first = Key(self.last.0 + 1);
                rest.push(Self {
                    first,
                    last: span.last,
                });
            }
        }
        rest
    }

    /// Whether a key lies in both.
    pub fn overlaps(self, other: Self) -> bool {
        self.first <= other.last && other.first <= self.last
    }
}

/// The unit of a database's keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Precision {
    /// Milliseconds since the epoch.
    #[serde(rename = "ms")]
    Milliseconds,
    /// Microseconds since the epoch.
    #[serde(rename = "us")]
    Microseconds,
    /// Nanoseconds since the epoch.
    #[serde(rename = "ns")]
    Nanoseconds,
}

impl Precision {
    /// Ticks in a second.
    pub fn ticks_per_second(self) -> i64 {
        match self {
            Self::Milliseconds => 1_000,
            Self::Microseconds => 1_000_000,
            Self::Nanoseconds => 1_000_000_000,
        }
    }
}

/// As the server says it: `ms`, `us` or `ns`, in SQL's quotes or without.
impl std::str::FromStr for Precision {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.trim_matches('\'') {
            "ms" => Ok(Self::Milliseconds),
            "us" => Ok(Self::Microseconds),
            "ns" => Ok(Self::Nanoseconds),
            _ => Err(format!("{text:?} is no precision: it is ms, us or ns")),
        }
    }
}

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Milliseconds => "ms",
            Self::Microseconds => "us",
            Self::Nanoseconds => "ns",
        })
    }
}

/// The second half of a composite primary key. Values of one table are all of one variant and order as the
/// server orders them.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PkValue {
    /// INT or BIGINT.
    Signed(i64),
    /// INT UNSIGNED or BIGINT UNSIGNED.
    Unsigned(u64),
    /// VARCHAR.
    Text(PkText),
}

/// A VARCHAR as part of a key. The server compares such values up to the first NUL and then by their length
/// (tValueCompare), so that two texts which differ only behind a NUL are the same key.
#[derive(Debug, Clone)]
pub struct PkText(Box<[u8]>);

impl PkText {
    /// Takes the bytes of the value, without terminator.
    pub fn new(bytes: &[u8]) -> Self {
        Self(bytes.into())
    }

    /// All bytes of the value.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    fn compared(&self) -> (&[u8], usize) {
        let end = self
            .0
            .iter()
            .position(|byte| *byte == 0)
            .unwrap_or(self.0.len());
        (&self.0[..end], self.0.len())
    }
}

impl PartialEq for PkText {
    fn eq(&self, other: &Self) -> bool {
        self.compared() == other.compared()
    }
}

impl Eq for PkText {}

impl PartialOrd for PkText {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for PkText {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.compared().cmp(&other.compared())
    }
}

impl std::hash::Hash for PkText {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.compared().hash(state);
    }
}
