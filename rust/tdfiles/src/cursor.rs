//! A bounded little-endian reader over bytes, for TDengine's message encoding and index structs.
//!
//! Format fact (server 3.3.7, message encoder): fixed integers are little-endian, varints are LEB128 and
//! zig-zag when signed, a string is a varint length that counts a trailing NUL plus the bytes, and a struct
//! is an i32 byte length plus that many bytes, so that newer servers can append fields.

use crate::FormatError;

#[derive(Debug, Clone, Copy)]
pub(crate) struct Cursor<'a> {
    what: &'static str,
    bytes: &'a [u8],
    pos: usize,
    /// Where `bytes` begins in the input that offsets are reported against.
    base: u64,
}

impl<'a> Cursor<'a> {
    pub(crate) fn new(what: &'static str, bytes: &'a [u8], base: u64) -> Self {
        Self {
            what,
            bytes,
            pos: 0,
            base,
        }
    }

    pub(crate) fn offset(&self) -> u64 {
        self.base + self.pos as u64
    }

    pub(crate) fn remaining(&self) -> usize {
        self.bytes.len() - self.pos
    }

    /// A bound for `Vec::with_capacity`: `count` things of `at_least` bytes each, as far as the bytes that are left can
    /// hold them.
    pub(crate) fn plausible(&self, count: usize, at_least: usize) -> usize {
        count.min(self.remaining() / at_least.max(1))
    }

    pub(crate) fn corrupt(&self, detail: impl Into<std::borrow::Cow<'static, str>>) -> FormatError {
        FormatError::corrupt(self.what, self.offset(), detail)
    }

    /// Everything that is left, without moving on.
    pub(crate) fn rest(&self) -> &'a [u8] {
        &self.bytes[self.pos..]
    }

    #[inline]
    pub(crate) fn take(&mut self, n: usize) -> Result<&'a [u8], FormatError> {
        let end = self
            .pos
            .checked_add(n)
            .filter(|end| *end <= self.bytes.len());
        let Some(end) = end else {
            return Err(self.corrupt(format!("needs {n} bytes, {} are left", self.remaining())));
        };
        let taken = &self.bytes[self.pos..end];
        self.pos = end;
        Ok(taken)
    }

    #[inline]
    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], FormatError> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    pub(crate) fn u8(&mut self) -> Result<u8, FormatError> {
        Ok(self.array::<1>()?[0])
    }

    pub(crate) fn i8(&mut self) -> Result<i8, FormatError> {
        Ok(i8::from_le_bytes(self.array()?))
    }

    pub(crate) fn i32(&mut self) -> Result<i32, FormatError> {
        Ok(i32::from_le_bytes(self.array()?))
    }

    pub(crate) fn u32(&mut self) -> Result<u32, FormatError> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    pub(crate) fn i64(&mut self) -> Result<i64, FormatError> {
        Ok(i64::from_le_bytes(self.array()?))
    }

    pub(crate) fn i64_be(&mut self) -> Result<i64, FormatError> {
        Ok(i64::from_be_bytes(self.array()?))
    }

    #[inline]
    pub(crate) fn uvarint(&mut self) -> Result<u64, FormatError> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.u8()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(self.corrupt("a varint is longer than 10 bytes"))
    }

    pub(crate) fn varint(&mut self) -> Result<i64, FormatError> {
        Ok(unzigzag(self.uvarint()?))
    }

    /// A zig-zag varint that counts things or bytes.
    pub(crate) fn length(&mut self) -> Result<usize, FormatError> {
        let n = self.varint()?;
        usize::try_from(n).map_err(|_| self.corrupt(format!("a length is negative: {n}")))
    }

    /// A string: its varint length counts the trailing NUL. Names are lossily decoded for display only.
    pub(crate) fn string(&mut self) -> Result<&'a [u8], FormatError> {
        let n = self.uvarint()?;
        let n = usize::try_from(n).map_err(|_| self.corrupt("a string is too long"))?;
        let bytes = self.take(n)?;
        Ok(bytes.strip_suffix(&[0]).unwrap_or(bytes))
    }

    /// A length-prefixed struct: a cursor over its bytes. This cursor moves past all of it.
    #[inline]
    pub(crate) fn structure(&mut self) -> Result<Cursor<'a>, FormatError> {
        let n = self.i32()?;
        let n = usize::try_from(n)
            .map_err(|_| self.corrupt(format!("a struct's length is negative: {n}")))?;
        let base = self.offset();
        Ok(Cursor {
            what: self.what,
            bytes: self.take(n)?,
            pos: 0,
            base,
        })
    }
}

#[inline]
pub(crate) fn unzigzag(value: u64) -> i64 {
    (value >> 1) as i64 ^ -((value & 1) as i64)
}
