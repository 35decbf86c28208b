//! What the index files share: a footer of (offset, size) pairs, arrays of fixed-size entries, and entries
//! that point to records stored as separately compressed columns.

use super::PagedFile;
use crate::{
    FormatError, ReadAt, Unreadable,
    codec::{self, Algorithm, Column, Place},
    cursor::Cursor,
};

/// A piece of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Extent {
    pub(crate) offset: u64,
    pub(crate) size: u64,
}

impl Extent {
    pub(crate) fn parse(cursor: &mut Cursor<'_>) -> Result<Self, FormatError> {
        let (offset, size) = (cursor.i64()?, cursor.i64()?);
        match (u64::try_from(offset), u64::try_from(size)) {
            (Ok(offset), Ok(size)) => Ok(Self { offset, size }),
            _ => Err(cursor.corrupt(format!("a piece of {size} bytes at {offset}"))),
        }
    }
}

/// The footer of `.head` and `.tomb` files: the place of the index, and 32 reserved bytes. The index ends where
/// the footer begins.
pub(super) fn read_footer<S: ReadAt>(
    file: &PagedFile<S>,
    what: &'static str,
) -> Result<Extent, FormatError> {
    const FOOTER: usize = 48;
    let bytes = file.footer::<FOOTER>(what)?;
    let at = file.size() - FOOTER as u64;
    let extent = Extent::parse(&mut Cursor::new(what, &bytes, at))?;
    if extent.offset.checked_add(extent.size) != Some(at) {
        let Extent { offset, size } = extent;
        let detail = format!("the index of {size} bytes at {offset} does not end at the footer");
        return Err(FormatError::corrupt(what, at, detail));
    }
    Ok(extent)
}

/// Reads an array of entries of `N` bytes each.
pub(super) fn read_array<S: ReadAt, const N: usize, T>(
    file: &PagedFile<S>,
    what: &'static str,
    extent: Extent,
    parse: impl Fn(&mut Cursor<'_>) -> Result<T, FormatError>,
) -> Result<Vec<T>, FormatError> {
    let bytes = file.read(what, extent.offset, extent.size)?;
    let (entries, rest) = bytes.as_chunks::<N>();
    if !rest.is_empty() {
        let detail = format!(
            "{} bytes are no whole number of entries of {N}",
            extent.size
        );
        return Err(FormatError::corrupt(what, extent.offset, detail));
    }
    entries
        .iter()
        .enumerate()
        .map(|(i, entry)| {
            parse(&mut Cursor::new(
                what,
                entry,
                extent.offset + (i * N) as u64,
            ))
        })
        .collect()
}

/// The records an index entry points to: columns that were compressed one by one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ColumnSet {
    pub(crate) extent: Extent,
    pub(crate) records: usize,
    pub(crate) sizes: Vec<usize>,
    pub(crate) algorithm: u8,
}

impl ColumnSet {
    /// Parses the end of an index entry: i32 records, N × i32 column sizes, u8 algorithm.
    pub(super) fn parse<const N: usize>(
        cursor: &mut Cursor<'_>,
        extent: Extent,
    ) -> Result<Self, FormatError> {
        let records = cursor.i32()?;
        let mut sizes = [0; N];
        for size in &mut sizes {
            *size = cursor.i32()?;
        }
        let negative = |_| cursor.corrupt("an index entry has a negative count or size");
        let records = usize::try_from(records).map_err(negative)?;
        let sizes = sizes.map(usize::try_from).into_iter();
        let sizes = sizes.collect::<Result<_, _>>().map_err(negative)?;
        Ok(Self {
            extent,
            records,
            sizes,
            algorithm: cursor.u8()?,
        })
    }

    /// Decodes the columns; those from `narrow_from` on hold 32-bit values. No more than `limit` records.
    pub(super) fn read<S: ReadAt>(
        &self,
        file: &PagedFile<S>,
        what: &'static str,
        narrow_from: usize,
        limit: usize,
    ) -> Result<Vec<Vec<i64>>, FormatError> {
        let offset = self.extent.offset;
        if self.records > limit {
            let why = Unreadable::TooManyRows {
                rows: self.records as u64,
                limit,
            };
            return Err(FormatError::unreadable(what, offset, why));
        }
        let algorithm = match self.algorithm {
            word @ 0..=2 => Algorithm::from_word(word.into()),
            word => Err(Unreadable::Codec(word.into())),
        }
        .map_err(|why| FormatError::unreadable(what, offset, why))?;
        let bytes = file.read(what, offset, self.extent.size)?;
        let mut cursor = Cursor::new(what, &bytes, offset);
        let mut columns = Vec::with_capacity(self.sizes.len());
        for (i, size) in self.sizes.iter().enumerate() {
            let place = Place {
                what,
                offset: cursor.offset(),
            };
            let encoded = cursor.take(*size)?;
            let column = if i < narrow_from {
                Column::Integer
            } else {
                Column::NarrowInteger
            };
            columns.push(codec::decode(
                encoded,
                self.records,
                algorithm,
                column,
                place,
            )?);
        }
        Ok(columns)
    }
}
