//! Little-endian integers, LEB128 varints, strings and length-prefixed structs.

/// Zig-zag: small magnitudes of either sign become small unsigned numbers.
pub(crate) fn zigzag(v: i64) -> u64 {
    ((v << 1) ^ (v >> 63)) as u64
}

/// Appends the primitive encodings of the wire and file formats.
pub(crate) trait Put {
    /// Appends bytes as they are.
    fn raw(&mut self, bytes: &[u8]);

    fn u8(&mut self, v: u8) {
        self.raw(&[v]);
    }

    fn i16(&mut self, v: i16) {
        self.raw(&v.to_le_bytes());
    }

    fn i32(&mut self, v: i32) {
        self.raw(&v.to_le_bytes());
    }

    fn u32(&mut self, v: u32) {
        self.raw(&v.to_le_bytes());
    }

    fn i64(&mut self, v: i64) {
        self.raw(&v.to_le_bytes());
    }

    /// Unsigned LEB128.
    fn uvar(&mut self, mut v: u64) {
        while v >= 0x80 {
            self.u8(v as u8 | 0x80);
            v >>= 7;
        }
        self.u8(v as u8);
    }

    /// Zig-zag LEB128.
    fn ivar(&mut self, v: i64) {
        self.uvar(zigzag(v));
    }

    /// A string: length with the closing NUL, the bytes, the NUL.
    fn cstr(&mut self, s: &str) {
        self.uvar(s.len() as u64 + 1);
        self.raw(s.as_bytes());
        self.u8(0);
    }

    /// Bytes behind their length.
    fn binary(&mut self, b: &[u8]) {
        self.uvar(b.len() as u64);
        self.raw(b);
    }

    /// A struct: 4-byte length, then what `fill` appends.
    fn structure(&mut self, fill: impl FnOnce(&mut Vec<u8>))
    where
        Self: Sized,
    {
        let mut body = Vec::new();
        fill(&mut body);
        self.i32(i32::try_from(body.len()).unwrap());
        self.raw(&body);
    }
}

impl Put for Vec<u8> {
    fn raw(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn varints_follow_leb128_with_zigzag() {
        let mut b = Vec::new();
        b.uvar(300);
        b.ivar(0x100);
        b.ivar(-1);
        assert_eq!(b, [0xac, 0x02, 0x80, 0x04, 0x01]);
        assert_eq!(zigzag(i64::MIN), u64::MAX);
    }

    #[test]
    fn strings_count_their_nul() {
        let mut b = Vec::new();
        b.cstr("d15");
        assert_eq!(b, b"\x04d15\0");
    }
}
