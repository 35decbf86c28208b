//! From messages to changes: which windows of which tables a round of messages touched.
//!
//! A table's rows come with its name, everything else with its uid: a message about tables is the record of the
//! server's log, as it stands there. Messages of one vgroup come in the order of its log, and a name always belongs
//! to the same vgroup, so a name's uid is the one that the last message about it said, or the server's list.

use crate::{
    teller::{NotTaken, Teller},
    tmq::tables::{Stable, Table, Tables},
};
use bitmap::{BlockId, WindowNumber};
use events::intercept::EventKind;
use model::{Key, Uid, VgId};
use plan::{Ordinals, window::WindowWidth};
use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    mem,
    time::{Duration, Instant},
};
use tdfiles::wal::{Message, Opaque};

/// By window, the newest offset that changed rows in it.
type Windows = BTreeMap<WindowNumber, u64>;

/// What happened to a table in a round.
#[derive(Debug, Default)]
struct TableChanges {
    windows: Windows,
    /// From window to window, rows were deleted.
    deleted: Vec<(WindowNumber, WindowNumber, u64)>,
    dropped: Option<u64>,
    silenced: Option<u64>,
}

/// Rows of a table whose uid is not known yet.
#[derive(Debug)]
struct Unnamed {
    windows: Windows,
    since: Instant,
    /// If the table was dropped, the message that says so stands before this offset.
    until: Option<i64>,
}

impl Unnamed {
    fn new() -> Self {
        Self {
            windows: Windows::new(),
            since: Instant::now(),
            until: None,
        }
    }

    /// Whether the message that the table was dropped may still come, as it stands now.
    fn may_be_dropped(&mut self, log: LogEnd) -> bool {
        if self.since.elapsed() < UNNAMED {
            return true;
        }
        log.read < *self.until.get_or_insert(log.end)
    }
}

/// How far a vgroup's log is read, and where it ends.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct LogEnd {
    pub(super) read: i64,
    pub(super) end: i64,
}

/// What could not be told by blocks, and why.
#[derive(Debug, PartialEq, Eq)]
struct Everything {
    wal: u64,
    why: String,
}

/// Reads messages.
#[derive(Debug)]
pub(super) struct Reader {
    window: WindowWidth,
    tables: Tables,
    /// The tables there were when it began.
    before: BTreeSet<Uid>,
    /// Tables that were created since the last save.
    fresh: HashSet<Uid>,
    /// Names of tables that rows of a message may have created.
    maybe_new: HashSet<String>,
    changes: BTreeMap<Uid, TableChanges>,
    /// Rows of tables whose uid is not known yet.
    unnamed: BTreeMap<(VgId, String), Unnamed>,
    everything: Vec<Everything>,
    /// Tables whose rows the server does not send to this consumer any more.
    silenced: BTreeSet<String>,
    /// How many of them are told for the first time.
    newly_silenced: u64,
    /// Rows and messages about tables since the last save, and their bytes.
    messages: u64,
    bytes: u64,
    pub(super) parse_errors: u64,
}

/// What ALTER TABLE does to columns and options. All else sets tags, or is unknown.
const COLUMNS_AND_OPTIONS: [i8; 13] = [5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 16, 17, 18];
/// How long the message about a table that is gone already may take.
const UNNAMED: Duration = Duration::from_secs(10);
/// So many changes are told at once at most.
const MOST_CHANGES: usize = 100_000;

impl Reader {
    /// Begins with the tables that the server has now. Of the tables there were, those that are not among them were
    /// dropped, whatever messages say.
    pub(super) fn new(
        window: WindowWidth,
        tables: Tables,
        before: BTreeSet<Uid>,
        wal: u64,
    ) -> Self {
        let mut reader = Self {
            window,
            tables,
            before,
            fresh: HashSet::new(),
            maybe_new: HashSet::new(),
            changes: BTreeMap::new(),
            unnamed: BTreeMap::new(),
            everything: Vec::new(),
            silenced: BTreeSet::new(),
            newly_silenced: 0,
            messages: 0,
            bytes: 0,
            parse_errors: 0,
        };
        let gone = reader.before.difference(reader.tables.uids());
        let gone: Vec<Uid> = gone.copied().collect();
        for uid in gone {
            reader.drop_uid(uid, wal);
        }
        reader
    }

    /// The live tables.
    pub(super) fn tables(&self) -> &BTreeSet<Uid> {
        self.tables.uids()
    }

    /// Whether there is anything to tell.
    pub(super) fn is_empty(&self) -> bool {
        self.changes.is_empty() && self.everything.is_empty() && self.unnamed.is_empty()
    }

    /// Whether it is time to tell.
    pub(super) fn is_full(&self) -> bool {
        self.changes.len() + self.unnamed.len() > MOST_CHANGES
            || self.messages > 100 * MOST_CHANGES as u64
    }

    /// Whether there are rows of tables whose uid is not known yet.
    pub(super) fn has_unnamed(&self) -> bool {
        !self.unnamed.is_empty()
    }

    /// Whether the server's list of tables is needed to tell.
    pub(super) fn needs_names(&self) -> bool {
        let unknown = |name: &String| self.tables.uid(name).is_none();
        self.has_unnamed() || self.silenced.iter().any(unknown)
    }

    /// Whether the server keeps rows of some tables back. From 3.3.6 to 3.3.7 at least, it sends a subscription no
    /// more rows of a table whose tags were set, also not those that were written before and not read yet; this ends
    /// with the consumer group.
    pub(super) fn is_kept_from_rows(&self) -> bool {
        !self.silenced.is_empty()
    }

    /// What the server keeps back counts as changed, up to this offset. To be called before every [`Self::tell`].
    pub(super) fn mark_silenced(&mut self, wal: u64) {
        // Who has no uid now was dropped.
        self.silenced.retain(|name| self.tables.uid(name).is_some());
        for uid in self
            .silenced
            .iter()
            .filter_map(|name| self.tables.uid(name))
        {
            self.changes.entry(uid).or_default().silenced = Some(wal);
        }
    }

    /// Everything may have changed, up to this offset.
    pub(super) fn everything(&mut self, wal: u64, why: String) {
        tracing::warn!(reason = why, "everything counts as changed");
        self.everything.push(Everything { wal, why });
    }

    /// So many bytes of rows came in.
    pub(super) fn count_bytes(&mut self, bytes: u64) {
        self.bytes += bytes;
    }

    /// Rows of a table were written.
    pub(super) fn rows(&mut self, vgroup: VgId, wal: u64, table: &str, keys: &[i64]) {
        self.messages += keys.len() as u64;
        if keys.is_empty() {
            self.everything(
                wal,
                format!("vgroup {vgroup} sent rows of table {table:?} that can't be read"),
            );
        }
        let windows = match self.tables.uid(table) {
            Some(uid) => &mut self.changes.entry(uid).or_default().windows,
            None => {
                let of_table = self.unnamed.entry((vgroup, table.to_owned()));
                &mut of_table.or_insert_with(Unnamed::new).windows
            }
        };
        let mut last = None;
        for key in keys {
            let window = self.window.window_of(Key(*key));
            if last != Some(window) {
                let newest = windows.entry(window).or_insert(wal);
                *newest = wal.max(*newest);
                last = Some(window);
            }
        }
    }

    /// A table with rows in a message that created tables may be one of those: its name may have had another uid.
    pub(super) fn may_be_new(&mut self, table: &str) {
        self.tables.forget_name(table);
        self.maybe_new.insert(table.to_owned());
    }

    fn created(&mut self, uid: Uid) {
        if !self.before.contains(&uid) {
            self.fresh.insert(uid);
        }
    }

    fn not_understood(&mut self, wal: u64, problem: &str) {
        self.parse_errors += 1;
        self.everything(
            wal,
            format!("a message about tables can't be understood: {problem}"),
        );
    }

    /// A record of the log about tables or deletes.
    pub(super) fn record(&mut self, vgroup: VgId, wal: u64, message_type: i16, body: &[u8]) {
        self.messages += 1;
        self.bytes += body.len() as u64;
        let message = match Message::decode(message_type, body, 0) {
            Ok(message) => message,
            Err(error) => return self.not_understood(wal, &error.to_string()),
        };
        match message {
            Message::CreateTables(created) => {
                for table in created {
                    let name = table.name.to_str().into_owned();
                    let entry = Table {
                        uid: table.uid,
                        stable: Stable::Uid(table.suid),
                    };
                    self.created(table.uid);
                    if let Some(before) = self.tables.insert(name, entry) {
                        self.drop_uid(before, wal);
                    }
                }
            }
            Message::DropTables(dropped) => {
                for table in dropped {
                    let name = table.name.to_str().into_owned();
                    match table.uid.or_else(|| self.tables.uid(&name)) {
                        Some(uid) => {
                            self.tables.remove(&name, uid);
                            self.unnamed.remove(&(vgroup, name));
                            self.drop_uid(uid, wal);
                        }
                        None => self.everything(
                            wal,
                            format!(
                                "table {name:?} was dropped, and nothing says which uid it had"
                            ),
                        ),
                    }
                }
            }
            Message::DropExpired(uids) => uids.iter().for_each(|uid| self.drop_uid(*uid, wal)),
            Message::DropSuperTable(stable) => {
                for uid in self
                    .tables
                    .remove_stable(&stable.name.to_str(), stable.suid)
                {
                    self.drop_uid(uid, wal);
                }
            }
            Message::Delete(delete) if delete.affected == 0 => {}
            Message::Delete(delete) => {
                let first = self.window.window_of(delete.span.first);
                let last = self.window.window_of(delete.span.last);
                for uid in delete.uids {
                    let changes = self.changes.entry(uid).or_default();
                    changes.deleted.push((first, last, wal));
                }
            }
            Message::BatchDelete(batch) => {
                for (name, span) in batch.deletes {
                    let first = self.window.window_of(span.first);
                    let last = self.window.window_of(span.last);
                    match self.tables.uid(&name.to_str()) {
                        Some(uid) => {
                            let changes = self.changes.entry(uid).or_default();
                            changes.deleted.push((first, last, wal));
                        }
                        None => self.everything(
                            wal,
                            format!("rows of table {:?} were deleted, and nothing says which uid it has", name.to_str()),
                        ),
                    }
                }
            }
            Message::AlterTable(alter) if COLUMNS_AND_OPTIONS.contains(&alter.action) => {}
            Message::AlterTable(alter) => {
                let is_first = self.silenced.insert(alter.name.to_str().into_owned());
                self.newly_silenced += u64::from(is_first);
            }
            Message::CreateSuperTable(_) | Message::AlterSuperTable(_) => {}
            Message::Trim | Message::Ignored(_) => {}
            Message::Opaque(Opaque::Unknown(number)) => {
                self.not_understood(wal, &format!("its type is {number}"));
            }
            Message::Opaque(other) => {
                self.everything(wal, format!("vgroup {vgroup} was reshaped: {other:?}"));
            }
            Message::Submit(_) => self.not_understood(wal, "it holds rows"),
        }
    }

    fn drop_uid(&mut self, uid: Uid, wal: u64) {
        self.changes.entry(uid).or_default().dropped = Some(wal);
    }

    /// Takes a newer list of the server's tables, and with it names the rows that have no table yet. Those of tables
    /// that are gone again wait for the message that says so, until the log is read that there was a while later.
    pub(super) fn refresh(&mut self, tables: Tables, wal: u64, log: impl Fn(VgId) -> LogEnd) {
        let before = mem::replace(&mut self.tables, tables);
        let gone: Vec<Uid> = before
            .uids()
            .difference(self.tables.uids())
            .copied()
            .collect();
        for uid in gone {
            self.drop_uid(uid, wal);
        }
        for ((vgroup, name), mut rows) in mem::take(&mut self.unnamed) {
            if let Some(uid) = self.tables.uid(&name) {
                if self.maybe_new.contains(&name) {
                    self.created(uid);
                }
                let known = &mut self.changes.entry(uid).or_default().windows;
                for (window, wal) in rows.windows {
                    let newest = known.entry(window).or_insert(wal);
                    *newest = wal.max(*newest);
                }
            } else if rows.may_be_dropped(log(vgroup)) {
                self.unnamed.insert((vgroup, name), rows);
            } else {
                self.everything(
                    wal,
                    format!("vgroup {vgroup} sent rows of table {name:?}, which the server does not have, nor says that it was dropped"),
                );
            }
        }
    }

    /// Gives every changed table its number; true if there were some without.
    pub(super) fn number(&mut self, ordinals: &mut Ordinals) -> bool {
        // An insert that creates its table unless it exists looks the same if it exists.
        self.fresh.retain(|uid| !ordinals.contains(*uid));
        let before = ordinals.uids().len();
        for uid in self.changes.keys() {
            ordinals.of(*uid);
        }
        ordinals.uids().len() > before
    }

    /// Tells everything. The tables have numbers. Returns how many changes could not be told by blocks.
    pub(super) fn tell(
        &self,
        ordinals: &mut Ordinals,
        teller: &mut Teller<'_>,
    ) -> Result<u64, NotTaken> {
        let mut by_range = self.newly_silenced;
        for (uid, changes) in &self.changes {
            let ordinal = ordinals.of(*uid);
            let kind = match self.fresh.contains(uid) {
                true => EventKind::Create,
                false => EventKind::Update,
            };
            for (window, wal) in &changes.windows {
                teller.block(kind, BlockId::new(ordinal, *window), *wal)?;
            }
            for (first, last, wal) in &changes.deleted {
                by_range += u64::from(!teller.windows(ordinal, *first, *last, *wal)?);
            }
            let whole = [
                (changes.dropped, "a table was dropped"),
                (
                    changes.silenced,
                    "tags of a table were set, and the server does not send its rows since",
                ),
            ];
            for (wal, why) in whole {
                if let Some(wal) = wal
                    && self.everything.is_empty()
                {
                    teller.table(ordinal, wal, why)?;
                }
            }
        }
        for everything in &self.everything {
            teller.everything(everything.wal, &everything.why)?;
            by_range += 1;
        }
        Ok(by_range)
    }

    /// What was told is safe. Returns how many messages that were, and their bytes.
    pub(super) fn clear(&mut self) -> (u64, u64) {
        self.changes.clear();
        self.everything.clear();
        self.fresh.clear();
        self.newly_silenced = 0;
        if self.unnamed.is_empty() {
            self.maybe_new.clear();
        }
        (mem::take(&mut self.messages), mem::take(&mut self.bytes))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use parking_lot::Mutex;
    use std::fs;
    use tdfiles::wal::{SegmentName, SegmentReader};

    const VGROUP: VgId = VgId(2);

    /// What was told, in words.
    #[derive(Default)]
    struct Told(Mutex<Vec<String>>);

    impl crate::teller::Listener for Told {
        fn block(&self, event: events::intercept::BlockEvent) -> bool {
            let id = BlockId(event.block);
            let window = i64::from(id.window().0) - (1 << 31);
            let words = format!("{:?} {}/{window} @{}", event.kind, id.table().0, event.wal);
            self.0.lock().push(words);
            true
        }

        fn range(&self, first: u64, last: u64, wal: u64, _time: i64, _why: &str) -> bool {
            let (first, last) = (BlockId(first), BlockId(last));
            let words = match (first.0, last.0) {
                (0, u64::MAX) => format!("everything @{wal}"),
                _ => format!("range {}-{} @{wal}", first.table().0, last.table().0),
            };
            self.0.lock().push(words);
            true
        }

        fn settle(&self) -> bool {
            true
        }
    }

    fn told(reader: &mut Reader, ordinals: &mut Ordinals) -> Vec<String> {
        let listener = Told::default();
        reader.number(ordinals);
        let mut teller = Teller::new(&listener);
        reader.tell(ordinals, &mut teller).unwrap();
        reader.clear();
        listener.0.into_inner()
    }

    /// A log that ends at 9 and is read up to here.
    fn log(read: i64) -> impl Fn(VgId) -> LogEnd {
        move |_| LogEnd { read, end: 9 }
    }

    fn tables(all: &[(&str, i64)]) -> Tables {
        let mut tables = Tables::default();
        for (name, uid) in all {
            let stable = Stable::Name("s".to_owned());
            tables.insert(
                (*name).to_owned(),
                Table {
                    uid: Uid(*uid),
                    stable,
                },
            );
        }
        tables
    }

    fn reader(now: &[(&str, i64)]) -> Reader {
        let tables = tables(now);
        let before = tables.uids().clone();
        Reader::new(WindowWidth::from_ticks(10).unwrap(), tables, before, 0)
    }

    #[test]
    fn rows_become_windows_with_their_newest_offset() {
        let mut reader = reader(&[("a", 7), ("b", 8)]);
        reader.rows(VGROUP, 3, "a", &[5, 1, 12, -1]);
        reader.rows(VGROUP, 4, "a", &[9]);
        let mut ordinals = Ordinals::default();
        assert_eq!(
            told(&mut reader, &mut ordinals),
            ["Update 0/-1 @3", "Update 0/0 @4", "Update 0/1 @3"]
        );
        assert!(told(&mut reader, &mut ordinals).is_empty(), "once");
        reader.rows(VGROUP, 4, "a", &[9]);
        reader.count_bytes(24);
        assert_eq!((reader.clear(), reader.clear()), ((1, 24), (0, 0)));
        reader.rows(VGROUP, 5, "b", &[]);
        assert_eq!(told(&mut reader, &mut ordinals), ["everything @5"]);
    }

    #[test]
    fn a_table_that_rows_created_is_new_and_whoever_had_its_name_is_dropped() {
        let mut reader = reader(&[("a", 7)]);
        reader.may_be_new("a");
        reader.may_be_new("c");
        reader.rows(VGROUP, 3, "a", &[1]);
        reader.rows(VGROUP, 3, "c", &[1]);
        assert!(reader.has_unnamed());
        reader.refresh(tables(&[("a", 9), ("c", 10)]), 3, log(3));
        assert!(!reader.has_unnamed());
        let mut ordinals = Ordinals::default();
        assert_eq!(
            told(&mut reader, &mut ordinals),
            ["range 0-0 @3", "Create 1/0 @3", "Create 2/0 @3"]
        );
        assert_eq!(ordinals.uids(), [Uid(7), Uid(9), Uid(10)]);
        // The same insert again: the table has a number.
        reader.may_be_new("c");
        reader.rows(VGROUP, 4, "c", &[1]);
        reader.refresh(tables(&[("a", 9), ("c", 10)]), 4, log(4));
        assert_eq!(told(&mut reader, &mut ordinals), ["Update 2/0 @4"]);
    }

    #[test]
    fn rows_whose_table_is_nowhere_make_everything_dirty_in_the_end() {
        let mut reader = reader(&[]);
        reader.rows(VGROUP, 3, "a", &[1]);
        reader.refresh(tables(&[]), 3, log(9));
        assert!(reader.has_unnamed(), "its drop may be on the way");
        for rows in reader.unnamed.values_mut() {
            rows.since -= UNNAMED;
        }
        for read in [4, 8] {
            reader.refresh(tables(&[]), 3, log(read));
            assert!(reader.has_unnamed(), "the log goes on");
        }
        reader.refresh(tables(&[]), 4, log(9));
        assert!(!reader.has_unnamed());
        assert_eq!(
            told(&mut reader, &mut Ordinals::default()),
            ["everything @4"]
        );
    }

    #[test]
    fn a_table_that_is_not_there_any_more_is_dropped() {
        let before = [Uid(7), Uid(8)].into();
        let width = WindowWidth::from_ticks(10).unwrap();
        let mut reader = Reader::new(width, tables(&[("b", 8)]), before, 5);
        let mut ordinals = Ordinals::default();
        assert_eq!(told(&mut reader, &mut ordinals), ["range 0-0 @5"]);
        assert_eq!(ordinals.uids(), [Uid(7)]);
    }

    /// The records about tables and deletes of a recorded server's logs.
    fn recorded_messages() -> Vec<(i16, Vec<u8>)> {
        let mut messages = Vec::new();
        for vnode in ["vnode2", "vnode3"] {
            let wal = recorded::data_dir("incr_wal").join("vnode").join(vnode);
            let mut logs: Vec<_> = fs::read_dir(wal.join("wal"))
                .unwrap()
                .map(|entry| entry.unwrap().path())
                .filter(|path| path.extension().is_some_and(|extension| extension == "log"))
                .collect();
            logs.sort();
            for log in logs {
                let name = SegmentName::parse(log.file_name().unwrap().to_str().unwrap()).unwrap();
                let file = fs::File::open(&log).unwrap();
                let mut segment = SegmentReader::new(file, name, false).unwrap();
                while let Ok(record) = segment.next_record() {
                    let number = record.header.message_type;
                    // Creates, alters, drops, deletes.
                    if (515..=535).contains(&number) || number == 579 {
                        messages.push((number, record.body.unwrap().to_vec()));
                    }
                }
            }
        }
        assert!(messages.len() > 5, "{}", messages.len());
        messages
    }

    #[test]
    fn records_of_a_real_log_are_told_by_uid() {
        let mut reader = reader(&[]);
        let mut wal = 0;
        for (number, body) in recorded_messages() {
            wal += 1;
            reader.record(VGROUP, wal, number, &body);
        }
        let found = recorded::vnodes(&recorded::data_dir("incr_wal")).unwrap();
        let found: Vec<_> = found
            .iter()
            .map(|vnode| recorded::find(vnode, recorded::BASE, capture::SourceChoice::Wal).unwrap())
            .collect();
        let dropped: BTreeSet<Uid> = found.iter().flat_map(|f| &f.dropped).copied().collect();
        let of_reader = reader.changes.iter().filter(|(_, c)| c.dropped.is_some());
        let of_reader: BTreeSet<Uid> = of_reader.map(|(uid, _)| *uid).collect();
        assert!(!dropped.is_empty() && of_reader == dropped);
        for (uid, span, _) in found.iter().flat_map(|found| &found.deletes) {
            let window = |key| reader.window.window_of(key);
            let told = &reader.changes[uid].deleted;
            let is_it = |(first, last, _): &(WindowNumber, WindowNumber, u64)| {
                (*first, *last) == (window(span.first), window(span.last))
            };
            assert!(told.iter().any(is_it), "{uid} {span:?}");
        }
        assert_eq!((reader.parse_errors, reader.everything.len()), (0, 0));
    }

    #[test]
    fn hostile_records_are_understood_or_make_everything_dirty() {
        let mut errors = 0;
        for (number, body) in recorded_messages() {
            for at in 0..body.len() {
                for hostile in [&body[..at], &{
                    let mut flipped = body.clone();
                    flipped[at] ^= 0x80;
                    flipped
                }] {
                    let mut reader = reader(&[("t1", 1)]);
                    reader.record(VGROUP, 1, number, hostile);
                    errors += reader.parse_errors;
                    assert_eq!(reader.parse_errors > 0, !reader.everything.is_empty());
                    reader.number(&mut Ordinals::default());
                }
            }
        }
        assert!(errors > 100);
        let mut reader = reader(&[]);
        for number in [0, -1, i16::MAX, 513, 591] {
            reader.record(VGROUP, 1, number, &[0; 64]);
        }
        assert_eq!(reader.everything.len(), 5);
        assert_eq!(told(&mut reader, &mut Ordinals::default()).len(), 5);
    }
}
