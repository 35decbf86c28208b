//! The bitmaps of a link: which blocks it changes, as Roaring bitmaps that every language with such a library reads.
//!
//! ```text
//! "IBBITMAP"   u32 format   Zstandard frame   u32 CRC-32C of everything before
//!
//! In the frame, all numbers little-endian:
//!   i64 width of a window, in ticks
//!   u32 N, the number of tables, then of each: i64 uid, ascending; i32 vgroup; u8 state   (three lists)
//!   u32 R, the number of ranges, then of each: u32 table, u32 first and last window, u32 state, i64 version
//!   three times, for DIRTY, NEW and DELETED: u64 length, a 64-bit Roaring bitmap in portable form
//!   for each block in one of the bitmaps, ascending: i64 version
//! ```
//!
//! A number in a bitmap is `place of the table in the list << 32 | window`. Tables are known by their uids, as places differ from
//! link to link. States have the numbers of the block engine.
//!
//! | module | does |
//! |---|---|
//! | `changes` | puts changes into a table's blocks |
//! | `then` | puts the bitmaps of links together that follow each other |

mod changes;
mod then;

use crate::link_error::LinkError;
use bitmap::{BlockId, BlockState, TableOrdinal, WindowNumber};
use model::{Uid, Version, VgId, sealed::NewerFormat};
use plan::window::WindowWidth;
use roaring::{RoaringBitmap, RoaringTreemap};
use std::{
    collections::BTreeMap,
    io::{self, BufRead as _, BufReader, Read, Write},
};

/// The only format there is.
const FORMAT: u32 = 1;

const MAGIC: &[u8; 8] = b"IBBITMAP";

/// More than this is in no frame of ours.
const MOST_BYTES: u64 = 4 << 30;

/// A frame that needs a larger window is not ours.
const WINDOW_LOG: u32 = 23;

/// In the order of the file.
const STATES: [BlockState; 3] = [BlockState::Dirty, BlockState::New, BlockState::Deleted];

/// What a link changes in one database, block by block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bitmaps {
    /// The width of its windows.
    pub window: WindowWidth,
    /// The tables that it creates, changes or drops.
    pub tables: BTreeMap<Uid, TableBlocks>,
}

/// What is changed in a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableBlocks {
    /// Its vgroup.
    pub vgroup: VgId,
    /// NEW: it is created. DELETED: it is dropped, with all its blocks, which nobody names. DIRTY: anything else.
    pub state: BlockState,
    /// Its changed blocks, ascending by window.
    pub blocks: Vec<WindowState>,
    /// Windows too many to be listed, ascending. What `blocks` says of one of them counts.
    pub ranges: Vec<WindowRange>,
}

/// What happened to the block of a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WindowState {
    /// The window.
    pub window: WindowNumber,
    /// NEW: the table is, too. DIRTY: rows were written, or some deleted. DELETED: nothing is left in it.
    pub state: BlockState,
    /// The newest change's version.
    pub version: Version,
}

/// What happened to the blocks of many windows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct WindowRange {
    /// The first window.
    pub first: WindowNumber,
    /// The last one.
    pub last: WindowNumber,
    /// Whether nothing is left in them. If not, anything in them may have changed.
    pub emptied: bool,
    /// The newest change's version.
    pub version: Version,
}

impl WindowRange {
    /// DELETED or DIRTY.
    pub fn state(self) -> BlockState {
        match self.emptied {
            true => BlockState::Deleted,
            false => BlockState::Dirty,
        }
    }

    /// Whether it holds the window.
    pub fn contains(self, window: WindowNumber) -> bool {
        (self.first..=self.last).contains(&window)
    }
}

impl Bitmaps {
    /// Bitmaps of nothing.
    pub fn new(window: WindowWidth) -> Self {
        Self {
            window,
            tables: BTreeMap::new(),
        }
    }

    /// The bytes of the file.
    ///
    /// ```
    /// use bitmap::{BlockState, WindowNumber};
    /// use model::{Uid, Version, VgId};
    /// use plan::window::WindowWidth;
    /// use repository::bitmaps::{Bitmaps, TableBlocks};
    /// let mut table = TableBlocks::new(VgId(2), BlockState::Dirty);
    /// table.rows_in(WindowNumber(7), Version(40));
    /// let mut bitmaps = Bitmaps::new(WindowWidth::from_ticks(3_600_000).unwrap());
    /// bitmaps.tables.insert(Uid(5), table);
    /// let bytes = bitmaps.to_bytes()?;
    /// assert_eq!(&bytes[..12], b"IBBITMAP\x01\0\0\0");
    /// assert_eq!(Bitmaps::parse(&bytes, "0.bitmaps").unwrap(), bitmaps);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Errors
    /// There is more than a file can hold.
    pub fn to_bytes(&self) -> io::Result<Vec<u8>> {
        let mut bytes = MAGIC.to_vec();
        bytes.extend(FORMAT.to_le_bytes());
        let mut body = Counted {
            inner: zstd::Encoder::new(bytes, 1)?,
            written: 0,
        };
        self.write(&mut body)?;
        if body.written > MOST_BYTES {
            return Err(io::Error::other("too many blocks changed"));
        }
        let mut bytes = body.inner.finish()?;
        bytes.extend(crc32c::crc32c(&bytes).to_le_bytes());
        Ok(bytes)
    }

    fn write(&self, to: &mut impl Write) -> io::Result<()> {
        to.write_all(&self.window.ticks().to_le_bytes())?;
        let count =
            |count: usize| u32::try_from(count).map_err(|_| io::Error::other("too many of them"));
        to.write_all(&count(self.tables.len())?.to_le_bytes())?;
        for uid in self.tables.keys() {
            to.write_all(&uid.0.to_le_bytes())?;
        }
        for table in self.tables.values() {
            to.write_all(&table.vgroup.0.to_le_bytes())?;
        }
        for table in self.tables.values() {
            to.write_all(&[table.state as u8])?;
        }
        let ranges = || {
            let tables = (0_u32..).zip(self.tables.values());
            tables.flat_map(|(place, table)| table.ranges.iter().map(move |range| (place, range)))
        };
        to.write_all(&count(ranges().count())?.to_le_bytes())?;
        for (place, range) in ranges() {
            for number in [place, range.first.0, range.last.0, range.state() as u32] {
                to.write_all(&number.to_le_bytes())?;
            }
            to.write_all(&range.version.0.to_le_bytes())?;
        }
        for state in STATES {
            let tables = (0_u32..).zip(self.tables.values());
            let windows = tables.map(|(place, table)| (place, table.bitmap(state)));
            let some = windows.filter(|(_, windows)| !windows.is_empty());
            let mut bitmap = RoaringTreemap::from_bitmaps(some);
            bitmap.optimize();
            to.write_all(&(bitmap.serialized_size() as u64).to_le_bytes())?;
            bitmap.serialize_into(&mut *to)?;
        }
        for block in self.tables.values().flat_map(|table| &table.blocks) {
            to.write_all(&block.version.0.to_le_bytes())?;
        }
        Ok(())
    }

    /// Parses a file's bytes; `place` says in messages where they are from.
    ///
    /// # Errors
    /// They are not what was written, or of a newer format.
    pub fn parse(bytes: &[u8], place: &str) -> Result<Self, LinkError> {
        let damaged = |problem: String| LinkError::Damaged {
            place: place.to_owned(),
            problem,
        };
        let rest = bytes
            .strip_prefix(MAGIC)
            .and_then(|rest| rest.split_first_chunk::<4>());
        let Some((format, rest)) = rest else {
            return Err(damaged("it does not hold bitmaps of a link".to_owned()));
        };
        match u32::from_le_bytes(*format) {
            0 => return Err(damaged("its format is 0".to_owned())),
            FORMAT => {}
            newer => {
                return Err(NewerFormat {
                    place: place.to_owned(),
                    found: newer.into(),
                    known: FORMAT,
                }
                .into());
            }
        }
        let sealed = rest.split_last_chunk::<4>().filter(|(frame, checksum)| {
            let end = MAGIC.len() + format.len() + frame.len();
            let content = bytes.get(..end).unwrap_or_default();
            crc32c::crc32c(content) == u32::from_le_bytes(**checksum)
        });
        let Some((frame, _)) = sealed else {
            return Err(damaged(
                "its checksum is not that of its content: it was changed or damaged".to_owned(),
            ));
        };
        read(frame).map_err(|error| damaged(error.to_string()))
    }
}

fn wrong(problem: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, problem.into())
}

/// What a frame holds. Nothing is believed further than its bytes reach.
fn read(frame: &[u8]) -> io::Result<Bitmaps> {
    let mut decoder = zstd::Decoder::with_buffer(frame)?;
    decoder.window_log_max(WINDOW_LOG)?;
    let mut body = Body(BufReader::with_capacity(1 << 16, decoder).take(MOST_BYTES));
    let window =
        WindowWidth::from_ticks(body.i64()?).ok_or_else(|| wrong("its windows have no width"))?;
    let count = body.u32()?;
    let mut uids: Vec<Uid> = Vec::new();
    for _ in 0..count {
        let uid = Uid(body.i64()?);
        if uids.last().is_some_and(|last| *last >= uid) {
            return Err(wrong("its tables are not in order"));
        }
        uids.push(uid);
    }
    let mut tables = Vec::new();
    for _ in 0..uids.len() {
        let vgroup = VgId(i32::from_le_bytes(body.array()?));
        tables.push(TableBlocks::new(vgroup, BlockState::Dirty));
    }
    for table in &mut tables {
        let [state] = body.array()?;
        table.state = state_of(state.into())?;
    }
    body.ranges(&mut tables)?;
    let mut bitmaps = Vec::new();
    for state in STATES {
        let length = body.u64()?;
        let mut bytes = body.by_ref().take(length);
        let bitmap = RoaringTreemap::deserialize_from(&mut bytes)?;
        if bytes.limit() > 0 {
            return Err(wrong("a bitmap is shorter than it should be"));
        }
        bitmaps.push((state, bitmap));
    }
    body.blocks(&bitmaps, &mut tables)?;
    if !body.0.fill_buf()?.is_empty() {
        return Err(wrong("more follows than it should hold"));
    }
    Ok(Bitmaps {
        window,
        tables: uids.into_iter().zip(tables).collect(),
    })
}

fn state_of(number: u32) -> io::Result<BlockState> {
    STATES
        .into_iter()
        .find(|state| *state as u32 == number)
        .ok_or_else(|| wrong(format!("there is no state {number}")))
}

/// Whether a link can change a block so, given what happens to its table.
fn fits(table: BlockState, block: BlockState) -> bool {
    match table {
        BlockState::New => block == BlockState::New,
        BlockState::Dirty => matches!(block, BlockState::Dirty | BlockState::Deleted),
        BlockState::Deleted | BlockState::Clean => false,
    }
}

/// What is in a frame.
struct Body<R>(io::Take<R>);

impl<R: io::BufRead> Body<R> {
    fn by_ref(&mut self) -> &mut io::Take<R> {
        &mut self.0
    }

    fn array<const N: usize>(&mut self) -> io::Result<[u8; N]> {
        let mut bytes = [0; N];
        self.0.read_exact(&mut bytes)?;
        Ok(bytes)
    }

    fn u32(&mut self) -> io::Result<u32> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    fn u64(&mut self) -> io::Result<u64> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    fn i64(&mut self) -> io::Result<i64> {
        Ok(i64::from_le_bytes(self.array()?))
    }

    fn ranges(&mut self, tables: &mut [TableBlocks]) -> io::Result<()> {
        let mut last = None;
        for _ in 0..self.u32()? {
            let place = self.u32()?;
            let (first, until) = (WindowNumber(self.u32()?), WindowNumber(self.u32()?));
            let state = state_of(self.u32()?)?;
            let range = WindowRange {
                first,
                last: until,
                emptied: state == BlockState::Deleted,
                version: Version(self.i64()?),
            };
            let table = tables.get_mut(place as usize);
            let table = table.filter(|table| fits(table.state, state) && first <= until);
            let Some(table) = table else {
                return Err(wrong("a range does not fit its table"));
            };
            if last.replace((place, range)) >= Some((place, range)) {
                return Err(wrong("its ranges are not in order"));
            }
            table.ranges.push(range);
        }
        Ok(())
    }

    /// The blocks of the bitmaps, each with its version.
    fn blocks(
        &mut self,
        bitmaps: &[(BlockState, RoaringTreemap)],
        tables: &mut [TableBlocks],
    ) -> io::Result<()> {
        let mut all: Vec<_> = bitmaps
            .iter()
            .map(|(state, bitmap)| (*state, bitmap.iter().peekable()))
            .collect();
        let mut last = None;
        loop {
            let next = all.iter_mut();
            let next = next.filter_map(|(state, blocks)| Some((*blocks.peek()?, *state)));
            let Some((block, state)) = next.min_by_key(|(block, _)| *block) else {
                return Ok(());
            };
            if last.replace(block) == Some(block) {
                return Err(wrong("a block has two states"));
            }
            for (of, blocks) in &mut all {
                if *of == state {
                    blocks.next();
                }
            }
            let block = BlockId(block);
            let table = tables.get_mut(block.table().0 as usize);
            let Some(table) = table.filter(|table| fits(table.state, state)) else {
                return Err(wrong("a block does not fit its table"));
            };
            table.blocks.push(WindowState {
                window: block.window(),
                state,
                version: Version(self.i64()?),
            });
        }
    }
}

impl TableBlocks {
    /// A table with no changed block.
    pub fn new(vgroup: VgId, state: BlockState) -> Self {
        Self {
            vgroup,
            state,
            blocks: Vec::new(),
            ranges: Vec::new(),
        }
    }

    /// The windows of the blocks in a state, without those of ranges.
    pub fn bitmap(&self, state: BlockState) -> RoaringBitmap {
        let blocks = self.blocks.iter().filter(|block| block.state == state);
        blocks.map(|block| block.window.0).collect()
    }

    /// The blocks by their ids, if the table has this number.
    pub fn numbered(
        &self,
        table: TableOrdinal,
    ) -> impl Iterator<Item = (BlockId, WindowState)> + '_ {
        let blocks = self.blocks.iter();
        blocks.map(move |block| (BlockId::new(table, block.window), *block))
    }
}

/// Counts what is written.
struct Counted<W> {
    inner: W,
    written: u64,
}

impl<W: Write> Write for Counted<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.written += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bitmaps() -> Bitmaps {
        let mut bitmaps = Bitmaps::new(WindowWidth::from_ticks(10).unwrap());
        let mut dirty = TableBlocks::new(VgId(2), BlockState::Dirty);
        for (window, state) in [
            (0, BlockState::Dirty),
            (7, BlockState::Deleted),
            (u32::MAX, BlockState::Dirty),
        ] {
            dirty.blocks.push(WindowState {
                window: WindowNumber(window),
                state,
                version: Version(i64::from(window) - 1),
            });
        }
        for (first, emptied) in [(0, true), (9, false)] {
            dirty.ranges.push(WindowRange {
                first: WindowNumber(first),
                last: WindowNumber(u32::MAX),
                emptied,
                version: Version(3),
            });
        }
        bitmaps.tables.insert(Uid(-5), dirty);
        let mut new = TableBlocks::new(VgId(3), BlockState::New);
        for window in 100..90_000 {
            new.rows_in(WindowNumber(window), Version(8));
        }
        bitmaps.tables.insert(Uid(i64::MAX), new);
        bitmaps
            .tables
            .insert(Uid(9), TableBlocks::new(VgId(-1), BlockState::Deleted));
        bitmaps
    }

    /// The same file with other content, as if it had been written so.
    fn forged(change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
        let bytes = bitmaps().to_bytes().unwrap();
        let mut body = zstd::decode_all(&bytes[12..bytes.len() - 4]).unwrap();
        change(&mut body);
        sealed(&zstd::encode_all(&body[..], 1).unwrap())
    }

    fn sealed(frame: &[u8]) -> Vec<u8> {
        let mut bytes = [&MAGIC[..], &FORMAT.to_le_bytes(), frame].concat();
        bytes.extend(crc32c::crc32c(&bytes).to_le_bytes());
        bytes
    }

    #[test]
    fn what_is_written_is_read() {
        let bytes = bitmaps().to_bytes().unwrap();
        assert_eq!(Bitmaps::parse(&bytes, "b").unwrap(), bitmaps());
        let nothing = Bitmaps::new(WindowWidth::from_ticks(i64::MAX).unwrap());
        let bytes = nothing.to_bytes().unwrap();
        assert_eq!(Bitmaps::parse(&bytes, "b").unwrap(), nothing);
    }

    #[test]
    fn any_changed_or_missing_byte_is_noticed() {
        let bytes = bitmaps().to_bytes().unwrap();
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 0x10;
            let error = Bitmaps::parse(&damaged, "dir/b").unwrap_err().to_string();
            assert!(error.starts_with("dir/b"), "byte {at}: {error}");
            assert!(Bitmaps::parse(&bytes[..at], "b").is_err(), "cut at {at}");
        }
    }

    #[test]
    fn a_newer_format_is_named_and_not_called_damaged() {
        let newer = [&MAGIC[..], &2_u32.to_le_bytes(), b"something else"].concat();
        assert_eq!(
            Bitmaps::parse(&newer, "b").unwrap_err().to_string(),
            "b has format 2; this program reads up to 1: it was written by a newer version, use that one"
        );
    }

    #[test]
    fn content_that_contradicts_itself_is_refused() {
        const UIDS: usize = 12;
        const STATES: usize = UIDS + 3 * (8 + 4);
        const RANGES: usize = STATES + 3 + 4;
        type Forge = fn(&mut Vec<u8>);
        let cases: [(&str, Forge); 10] = [
            ("no width", |body| body[..8].fill(0)),
            ("not in order", |body| body[UIDS + 7] = 0x7f),
            ("no state 0", |body| body[STATES] = 0),
            ("range does not fit", |body| body[RANGES] = 1),
            ("range does not fit", |body| body[RANGES] = 9),
            ("ranges are not in order", |body| body[RANGES + 4] = 10),
            ("block does not fit", |body| body[STATES + 2] = 1),
            ("more follows", |body| body.push(0)),
            ("fill whole buffer", |body| body.truncate(body.len() - 1)),
            ("not in order", |body| body[8..12].fill(0xff)),
        ];
        for (number, (expected, forge)) in cases.into_iter().enumerate() {
            let error = Bitmaps::parse(&forged(forge), "b").unwrap_err().to_string();
            assert!(error.contains(expected), "case {number}: {error}");
        }
        assert_eq!(Bitmaps::parse(&forged(|_| ()), "b").unwrap(), bitmaps());
    }

    #[test]
    fn a_frame_that_unpacks_to_much_more_is_left_early() {
        let bomb = zstd::encode_all(io::repeat(1).take(1 << 28), 1).unwrap();
        assert!(bomb.len() < 1 << 16);
        let error = Bitmaps::parse(&sealed(&bomb), "b").unwrap_err().to_string();
        assert!(error.contains("not in order"), "{error}");
    }
}
