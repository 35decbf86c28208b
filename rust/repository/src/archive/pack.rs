//! Files one after the other in a stream, as `tar` has them (POSIX ustar), so that `tar x` unpacks an archive.
//!
//! Only what is written here is read: every byte of a header, of the padding and of the end must be the one that would
//! have been written. What a file holds is checked by whoever has its entry.

use std::io::{self, Read};

const BLOCK: usize = 512;

/// What stands behind the last file.
pub(super) const END: [u8; 2 * BLOCK] = [0; 2 * BLOCK];

/// What stands before a file. `None` for a name or length that has no place in it.
pub(super) fn header(name: &str, length: u64) -> Option<[u8; BLOCK]> {
    let mut header = [0; BLOCK];
    let mut put = |at: usize, bytes: &[u8]| {
        let place = header.get_mut(at..at.checked_add(bytes.len())?)?;
        place.copy_from_slice(bytes);
        Some(())
    };
    if name.is_empty() || name.len() >= 100 || name.contains('\0') || length >= 1 << 33 {
        return None;
    }
    put(0, name.as_bytes())?;
    put(100, b"0000600\0")?;
    put(108, b"0000000\0")?;
    put(116, b"0000000\0")?;
    put(124, format!("{length:011o}\0").as_bytes())?;
    put(136, b"00000000000\0")?;
    put(148, b"        ")?;
    put(156, b"0")?;
    put(257, b"ustar\x0000")?;
    put(329, b"0000000\0")?;
    put(337, b"0000000\0")?;
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header
        .get_mut(148..156)?
        .copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    Some(header)
}

/// What stands behind a file of this length.
pub(super) fn padding(length: u64) -> &'static [u8] {
    let over = (length % BLOCK as u64) as usize;
    END.get(..(BLOCK - over) % BLOCK).unwrap_or_default()
}

/// The next file's name and length; `None` at the end.
pub(super) fn next(input: &mut dyn Read) -> io::Result<Option<(String, u64)>> {
    let mut bytes = [0; BLOCK];
    input.read_exact(&mut bytes)?;
    if bytes == [0; BLOCK] {
        expect(input, &[0; BLOCK])?;
        return match input.read(&mut [0])? {
            0 => Ok(None),
            _ => Err(wrong("it goes on after its end")),
        };
    }
    let text = |from: usize, to: usize| {
        let field = bytes.get(from..to)?.split(|byte| *byte == 0).next()?;
        std::str::from_utf8(field).ok()
    };
    let name = text(0, 100);
    let length = text(124, 136).and_then(|digits| u64::from_str_radix(digits, 8).ok());
    let (Some(name), Some(length)) = (name, length) else {
        return Err(wrong("a file in it has no name or length"));
    };
    if header(name, length) != Some(bytes) {
        return Err(wrong(
            "what stands before a file in it is not what was written",
        ));
    }
    Ok(Some((name.to_owned(), length)))
}

/// Reads what stands behind a file of this length.
pub(super) fn skip_padding(input: &mut dyn Read, length: u64) -> io::Result<()> {
    expect(input, padding(length))
}

fn expect(input: &mut dyn Read, bytes: &[u8]) -> io::Result<()> {
    let mut found = vec![0; bytes.len()];
    input.read_exact(&mut found)?;
    match found == bytes {
        true => Ok(()),
        false => Err(wrong(
            "what stands behind a file in it is not what was written",
        )),
    }
}

fn wrong(problem: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, problem)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_nothing_else() {
        let mut packed = Vec::new();
        for (name, content) in [
            ("a.json", "x".repeat(512)),
            ("b/c", "yz".to_owned()),
            ("d", String::new()),
        ] {
            packed.extend(header(name, content.len() as u64).unwrap());
            packed.extend(content.as_bytes());
            packed.extend(padding(content.len() as u64));
        }
        packed.extend(END);
        let read = |bytes: &[u8]| {
            let mut input = bytes;
            let mut found = Vec::new();
            while let Some((name, length)) = next(&mut input)? {
                let mut content = vec![0; length as usize];
                input.read_exact(&mut content)?;
                skip_padding(&mut input, length)?;
                found.push((name, content));
            }
            Ok::<_, io::Error>(found)
        };
        let found = read(&packed).unwrap();
        assert_eq!(found.len(), 3);
        assert_eq!(found[1], ("b/c".to_owned(), b"yz".to_vec()));
        for at in 0..packed.len() {
            assert!(read(&packed[..at]).is_err(), "cut at {at}");
        }
        // Of the end, of a header and of padding.
        for at in [
            0,
            60,
            130,
            150,
            200,
            300,
            511,
            1_700,
            2_600,
            packed.len() - 1,
        ] {
            let mut bad = packed.clone();
            bad[at] ^= 1;
            assert!(read(&bad).map_or(true, |other| other != found), "byte {at}");
        }
        assert!(read(&[packed.as_slice(), b"x"].concat()).is_err());
        assert_eq!(header("", 1), None);
        assert_eq!(header(&"n".repeat(100), 1), None);
        assert_eq!(header("n", 1 << 33), None);
    }
}
