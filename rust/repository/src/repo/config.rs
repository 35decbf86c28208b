//! What a repository says about itself: the object `config`, sealed JSON that anybody can read.

use super::{ObjectId, RepoError};
use model::sealed;
use serde::{Deserialize, Serialize};
use store::Store;

/// The format of a repository and of all its objects.
pub(crate) const FORMAT: u32 = 1;

pub(crate) const CONFIG: &str = "config";

/// No small object is longer, and none is read that is.
pub(crate) const SMALL: u64 = 1 << 20;

/// The object `config`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Config {
    pub(crate) format: u32,
    /// The repository's id.
    pub(crate) id: ObjectId,
    /// When it was made, RFC 3339.
    pub(crate) created: String,
    pub(crate) written_by: String,
    pub(crate) encryption: Encryption,
}

/// How objects are encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Encryption {
    /// They are not.
    #[serde(rename = "none")]
    None,
    /// By ChaCha20-Poly1305, under keys that HKDF-SHA256 derives from that of the repository.
    #[serde(rename = "chacha20-poly1305")]
    ChaCha20Poly1305,
}

impl Config {
    pub(crate) fn new(encryption: Encryption) -> Self {
        Self {
            format: FORMAT,
            id: ObjectId::random(),
            created: jiff::Timestamp::now().to_string(),
            written_by: written_by(),
            encryption,
        }
    }

    /// Reads it, and its bytes.
    pub(crate) fn load(store: &dyn Store) -> Result<(Self, Vec<u8>), RepoError> {
        let bytes = match get_small(store, CONFIG) {
            Err(RepoError::Store(error)) if error.is_not_found() => {
                return Err(RepoError::NotThere {
                    place: store.place(""),
                });
            }
            bytes => bytes?,
        };
        let config = parse(store, CONFIG, &bytes)?;
        Ok((config, bytes))
    }
}

/// The program that writes.
pub(crate) fn written_by() -> String {
    format!("incremental-bitmap {}", env!("CARGO_PKG_VERSION"))
}

/// Reads an object that is no longer than [`SMALL`] and not in chunks.
pub(crate) fn get_small(store: &dyn Store, name: &str) -> Result<Vec<u8>, RepoError> {
    let length = store.length(name)?;
    match length <= SMALL {
        true => Ok(store.get_range(name, 0..length)?),
        false => Err(RepoError::Damaged {
            place: store.place(name),
            problem: format!("it has {length} bytes, more than it can have"),
        }),
    }
}

/// Sealed JSON of an object.
pub(crate) fn parse<'b, T: Deserialize<'b>>(
    store: &dyn Store,
    name: &str,
    bytes: &'b [u8],
) -> Result<T, RepoError> {
    let place = store.place(name);
    sealed::open(bytes, FORMAT).map_err(|error| {
        error.of_file(&place, |problem| RepoError::Damaged {
            place: place.clone(),
            problem,
        })
    })
}

/// As sealed JSON.
pub(crate) fn to_bytes<T: Serialize>(value: &T) -> Result<Vec<u8>, RepoError> {
    sealed::seal(value).map_err(|error| RepoError::Refused(error.to_string()))
}
