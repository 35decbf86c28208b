//! JSON files with a checksum as their last key: `{…,"checksum":"crc32c:XXXXXXXX"}`, the CRC-32C of every byte
//! before `,"checksum"`.
//!
//! Their first key is `format`, a number. It is judged before anything else in them, as what else a newer format holds
//! is not known.

use serde::{Deserialize, Serialize};

const KEY: &str = r#","checksum":"crc32c:"#;
const END: &str = "\"}\n";

/// The JSON object of `value`, sealed.
pub fn seal<T: Serialize>(value: &T) -> serde_json::Result<Vec<u8>> {
    let mut bytes = serde_json::to_vec(value)?;
    bytes.pop(); // the closing brace
    let checksum = crc32c::crc32c(&bytes);
    bytes.extend_from_slice(format!("{KEY}{checksum:08x}{END}").as_bytes());
    Ok(bytes)
}

/// Why a sealed file can't be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SealedError {
    /// There is no checksum.
    #[error("it does not end in a checksum, so it is cut off or not written by this program")]
    Unsealed,
    /// Its checksum says something else.
    #[error("its checksum is {found:08x}, its content has {actual:08x}: it was changed or damaged")]
    Damaged {
        /// The checksum it has.
        found: u32,
        /// The checksum of its content.
        actual: u32,
    },
    /// Only newer versions of this program know its format.
    #[error("its format is {found}, known are those up to {known}")]
    Newer {
        /// Its format.
        found: u64,
        /// The newest format that is known.
        known: u32,
    },
    /// It is as it was written, and is something else.
    #[error("{0}")]
    NotUnderstood(String),
}

/// A file of a format that only newer versions of this program know. It is not damaged.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{place} has format {found}; this program reads up to {known}: it was written by a newer version, use that one"
)]
pub struct NewerFormat {
    /// The file.
    pub place: String,
    /// Its format.
    pub found: u64,
    /// The newest format that is known.
    pub known: u32,
}

impl SealedError {
    /// The error of the file at `place`; `broken` makes it of what is wrong, unless the file is newer.
    pub fn of_file<E: From<NewerFormat>>(self, place: &str, broken: impl FnOnce(String) -> E) -> E {
        match self {
            Self::Newer { found, known } => {
                let place = place.to_owned();
                NewerFormat {
                    place,
                    found,
                    known,
                }
                .into()
            }
            broken_so => broken(broken_so.to_string()),
        }
    }
}

/// What [`seal`] was given, if it is in a format up to `known`.
///
/// A newer format may be sealed in another way, which can't be checked here. It is known by its first key alone then.
pub fn open<'a, T: Deserialize<'a>>(bytes: &'a [u8], known: u32) -> Result<T, SealedError> {
    let sealed = check(bytes);
    let newer = |found: &u64| *found > known.into();
    if sealed == Err(SealedError::Unsealed)
        && let Some(found) = first_format(bytes).filter(newer)
    {
        return Err(SealedError::Newer { found, known });
    }
    sealed?;
    match format(bytes)? {
        0 => Err(SealedError::NotUnderstood("its format is 0".to_owned())),
        found if newer(&found) => Err(SealedError::Newer { found, known }),
        _ => from_json(bytes),
    }
}

fn from_json<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, SealedError> {
    serde_json::from_slice(bytes).map_err(|error| SealedError::NotUnderstood(error.to_string()))
}

/// The number of the format, whatever else there is.
fn format(bytes: &[u8]) -> Result<u64, SealedError> {
    #[derive(Deserialize)]
    struct Format {
        format: u64,
    }
    match first_format(bytes) {
        Some(format) => Ok(format),
        None => from_json::<Format>(bytes).map(|found| found.format),
    }
}

/// The number of the format, if the file begins with it as every file of this program does.
fn first_format(bytes: &[u8]) -> Option<u64> {
    let rest = bytes.strip_prefix(br#"{"format":"#)?;
    let end = rest.iter().position(|byte| !byte.is_ascii_digit())?;
    let (digits, rest) = rest.split_at(end);
    let ends = rest.starts_with(b",") || rest.starts_with(b"}");
    std::str::from_utf8(digits)
        .ok()
        .filter(|_| ends)?
        .parse()
        .ok()
}

/// Checks that `bytes` are what [`seal`] made.
fn check(bytes: &[u8]) -> Result<(), SealedError> {
    let body = bytes
        .strip_suffix(END.as_bytes())
        .ok_or(SealedError::Unsealed)?;
    let (body, digits) = body.split_last_chunk::<8>().ok_or(SealedError::Unsealed)?;
    let body = body
        .strip_suffix(KEY.as_bytes())
        .ok_or(SealedError::Unsealed)?;
    // Only what `seal` writes: no capitals, no sign.
    let lower_hex = |b: &u8| b.is_ascii_digit() || (b'a'..=b'f').contains(b);
    let found = std::str::from_utf8(digits)
        .ok()
        .filter(|digits| digits.bytes().all(|b| lower_hex(&b)))
        .and_then(|digits| u32::from_str_radix(digits, 16).ok())
        .ok_or(SealedError::Unsealed)?;
    let actual = crc32c::crc32c(body);
    if found == actual {
        Ok(())
    } else {
        Err(SealedError::Damaged { found, actual })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_changed_or_missing_byte_is_noticed() {
        let sealed = seal(&serde_json::json!({"a": 1, "b": ["x", "checksum"]})).unwrap();
        assert_eq!(check(&sealed), Ok(()));
        serde_json::from_slice::<serde_json::Value>(&sealed).unwrap();
        for at in 0..sealed.len() {
            for bit in 0..8 {
                let mut damaged = sealed.clone();
                damaged[at] ^= 1 << bit;
                assert!(check(&damaged).is_err(), "bit {bit} of byte {at}");
            }
            assert!(check(&sealed[..at]).is_err(), "cut at {at}");
        }
    }

    #[derive(Debug, PartialEq, Deserialize)]
    struct File {
        format: u32,
        a: String,
    }

    fn opened(bytes: &[u8]) -> Result<File, SealedError> {
        open(bytes, 2)
    }

    #[test]
    fn the_format_is_judged_before_the_rest() {
        let sealed = |value: serde_json::Value| opened(&seal(&value).unwrap());
        for format in [1, 2] {
            let file = sealed(serde_json::json!({"format": format, "a": "x"})).unwrap();
            assert_eq!(file.format, format);
        }
        let newer = |found| Err(SealedError::Newer { found, known: 2 });
        assert_eq!(sealed(serde_json::json!({"format": 3})), newer(3));
        assert_eq!(
            sealed(serde_json::json!({"format": u64::MAX, "a": 1})),
            newer(u64::MAX)
        );
        // Another program's order of keys.
        assert_eq!(
            sealed(serde_json::json!({"a": {"format": 1}, "format": 3})),
            newer(3)
        );
        for other in [
            serde_json::json!({"format": 0, "a": "x"}),
            serde_json::json!({"format": 1, "a": 3}),
            serde_json::json!({"format": "3", "a": "x"}),
            serde_json::json!({"format": -3, "a": "x"}),
            serde_json::json!({"format": 3.5, "a": "x"}),
            serde_json::json!({"a": "x"}),
        ] {
            let error = sealed(other.clone()).unwrap_err();
            assert!(
                matches!(error, SealedError::NotUnderstood(_)),
                "{other}: {error:?}"
            );
        }
    }

    #[test]
    fn a_newer_format_is_known_even_if_it_is_sealed_in_another_way() {
        let newer = Err(SealedError::Newer { found: 3, known: 2 });
        assert_eq!(opened(br#"{"format":3,"a":1,"sha256":"00"}"#), newer);
        assert_eq!(opened(b"{\"format\":3}\nand more lines\n"), newer);
        for unsealed in [
            &br#"{"format":2,"a":"x"}"#[..],
            br#"{"format":33"#,
            b"3",
            b"",
        ] {
            assert_eq!(opened(unsealed), Err(SealedError::Unsealed));
        }
    }

    #[test]
    fn a_flipped_bit_in_the_format_is_damage() {
        let mut bytes = seal(&serde_json::json!({"format": 2, "a": "x"})).unwrap();
        let at = bytes.iter().position(|byte| *byte == b'2').unwrap();
        bytes[at] = b'3';
        assert!(matches!(opened(&bytes), Err(SealedError::Damaged { .. })));
    }
}
