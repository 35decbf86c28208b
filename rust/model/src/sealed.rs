//! JSON files with a checksum as their last key: `{…,"checksum":"crc32c:XXXXXXXX"}`, the CRC-32C of every byte
//! before `,"checksum"`.

use serde::Serialize;

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

/// Why a sealed file is not what was written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
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
}

/// Checks that `bytes` are what [`seal`] made.
pub fn check(bytes: &[u8]) -> Result<(), Broken> {
    let body = bytes.strip_suffix(END.as_bytes()).ok_or(Broken::Unsealed)?;
    let (body, digits) = body.split_last_chunk::<8>().ok_or(Broken::Unsealed)?;
    let body = body.strip_suffix(KEY.as_bytes()).ok_or(Broken::Unsealed)?;
    // Only what `seal` writes: no capitals, no sign.
    let lower_hex = |b: &u8| b.is_ascii_digit() || (b'a'..=b'f').contains(b);
    let found = std::str::from_utf8(digits)
        .ok()
        .filter(|digits| digits.bytes().all(|b| lower_hex(&b)))
        .and_then(|digits| u32::from_str_radix(digits, 16).ok())
        .ok_or(Broken::Unsealed)?;
    let actual = crc32c::crc32c(body);
    if found == actual {
        Ok(())
    } else {
        Err(Broken::Damaged { found, actual })
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
}
