//! The check that headers claim nothing which the file can't hold: the Parquet library reserves memory for what a header
//! says before it looks at what is there.
//!
//! Headers are structs in Thrift's compact protocol. Only its grammar is known here, and of a page's header the few numbers
//! that matter.

/// How deep structs and lists may lie in each other.
const DEEPEST: usize = 16;

/// What a page's header says.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct PageHeader {
    /// Bytes of the header itself.
    pub(super) length: usize,
    /// Bytes of the page when it is unpacked.
    pub(super) unpacked: i64,
    /// Bytes of the page in the file.
    pub(super) packed: i64,
    /// Values in it.
    pub(super) values: i64,
}

/// Whether the bytes begin with a struct in which each list and text is as long as it says; how many bytes it takes.
pub(super) fn structure(bytes: &[u8]) -> Option<usize> {
    let mut input = Input {
        rest: bytes,
        numbers: &mut |_, _| {},
    };
    input.structure(&mut Vec::new())?;
    Some(bytes.len() - input.rest.len())
}

/// The header of the page that the bytes begin with.
pub(super) fn page_header(bytes: &[u8]) -> Option<PageHeader> {
    let mut header = PageHeader::default();
    // Field 5 is the header of a data page, 7 that of a dictionary, 8 that of a data page of the second kind.
    let mut numbers = |path: &[i64], number: i64| match path {
        [2] => header.unpacked = number,
        [3] => header.packed = number,
        [5 | 7 | 8, 1] => header.values = number,
        _ => {}
    };
    let mut input = Input {
        rest: bytes,
        numbers: &mut numbers,
    };
    input.structure(&mut Vec::new())?;
    let length = bytes.len() - input.rest.len();
    header.length = length;
    Some(header)
}

struct Input<'a, 'n> {
    rest: &'a [u8],
    /// Told of each number: the ids of the fields that lead to it, and the number.
    numbers: &'n mut dyn FnMut(&[i64], i64),
}

impl Input<'_, '_> {
    fn byte(&mut self) -> Option<u8> {
        let (byte, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(*byte)
    }

    fn skip(&mut self, count: u64) -> Option<()> {
        self.rest = self.rest.get(usize::try_from(count).ok()?..)?;
        Some(())
    }

    fn unsigned(&mut self) -> Option<u64> {
        let mut number = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            number |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(number);
            }
        }
        None
    }

    fn signed(&mut self) -> Option<i64> {
        let number = self.unsigned()?;
        Some((number >> 1) as i64 ^ -((number & 1) as i64))
    }

    fn structure(&mut self, path: &mut Vec<i64>) -> Option<()> {
        if path.len() > DEEPEST {
            return None;
        }
        let mut id = 0_i64;
        loop {
            let head = self.byte()?;
            if head == 0 {
                return Some(());
            }
            id = match head >> 4 {
                0 => self.signed()?,
                step => id + i64::from(step),
            };
            path.push(id);
            // A field that is true or false has no bytes of its own.
            if head & 15 > 2 {
                self.value(head & 15, path)?;
            }
            path.pop();
        }
    }

    fn value(&mut self, kind: u8, path: &mut Vec<i64>) -> Option<()> {
        match kind {
            1..=3 => self.skip(1),
            4..=6 => {
                let number = self.signed()?;
                (self.numbers)(path, number);
                Some(())
            }
            7 => self.skip(8),
            8 => {
                let length = self.unsigned()?;
                self.skip(length)
            }
            9 | 10 => {
                if path.len() > DEEPEST {
                    return None;
                }
                let head = self.byte()?;
                let count = match head >> 4 {
                    15 => self.unsigned()?,
                    count => count.into(),
                };
                // Each element takes a byte at least.
                if count > self.rest.len() as u64 {
                    return None;
                }
                path.push(-1);
                (0..count).try_for_each(|_| self.value(head & 15, path))?;
                path.pop();
                Some(())
            }
            12 => self.structure(path),
            // Parquet has no maps.
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_of_a_page_is_read_as_far_as_it_matters() {
        // type 0, unpacked 100, packed 3, data page header { values 7, … }.
        let bytes = [
            0x15, 0, 0x15, 200, 1, 0x15, 6, 0x2c, 0x15, 14, 0x15, 0, 0, 0, 0xff,
        ];
        let header = PageHeader {
            length: 14,
            unpacked: 100,
            packed: 3,
            values: 7,
        };
        assert_eq!(page_header(&bytes), Some(header));
        for cut in 0..14 {
            assert_eq!(page_header(&bytes[..cut]), None);
        }
    }

    #[test]
    fn a_list_or_a_text_that_is_longer_than_what_follows_is_refused() {
        assert_eq!(structure(&[0x19, 0x25, 1, 2, 0]), Some(5));
        assert_eq!(structure(&[0x19, 0xf5, 0xff, 0xff, 0xff, 0x7f, 0]), None);
        assert_eq!(structure(&[0x18, 2, b'a', b'b', 0]), Some(5));
        assert_eq!(structure(&[0x18, 9, b'a', b'b', 0]), None);
        assert_eq!(structure(&[0x1c; 1000]), None);
        assert_eq!(structure(&[0x19; 1000]), None);
    }
}
