//! From messages to changes: which windows of which tables a round of messages touched.
//!
//! A table's rows come with its name, everything else with its uid: a message about tables is the record of the
//! server's log, as it stands there. Messages of one vgroup come in the order of its log, and a name always belongs
//! to the same vgroup, so a name's uid is the one that the last message about it said, or the server's list.

use crate::{
    teller::{NotTaken, Teller},
    tmq::tables::{Stable, Table, Tables},
};
use backup::{plan::Ordinals, window::WindowWidth};
use bitmap::{BlockId, WindowNumber};
use capture::intercept::EventKind;
use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    mem,
    time::{Duration, Instant},
};
use tdfiles::{
    Key, Uid, VgId,
    wal::{Message, Opaque},
};

/// By window, the newest offset that changed rows in it.
type Windows = BTreeMap<WindowNumber, u64>;

/// What happened to a table in a round.
#[derive(Debug, Default)]
struct TableChanges {
    windows: Windows,
    /// From window to window, rows were deleted.
    deleted: Vec<(WindowNumber, WindowNumber, u64)>,
    dropped: Option<u64>,
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
    /// Rows of tables whose uid is not known yet, and since when.
    unnamed: BTreeMap<(VgId, String), (Windows, Instant)>,
    everything: Vec<Everything>,
    /// Rows and messages about tables since the last save.
    messages: u64,
    pub(super) parse_errors: u64,
}

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
            messages: 0,
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

    /// Everything may have changed, up to this offset.
    pub(super) fn everything(&mut self, wal: u64, why: String) {
        tracing::warn!(reason = why, "everything counts as changed");
        self.everything.push(Everything { wal, why });
    }

    /// Rows of a table were written.
    pub(super) fn rows(&mut self, vgroup: VgId, wal: u64, table: &str, keys: &[i64]) {
        self.messages += keys.len() as u64;
        let windows = match self.tables.uid(table) {
            Some(uid) => &mut self.changes.entry(uid).or_default().windows,
            None => {
                let of_table = self.unnamed.entry((vgroup, table.to_owned()));
                let nothing = || (Windows::new(), Instant::now());
                &mut of_table.or_insert_with(nothing).0
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
            // Columns and tags stand in no block.
            Message::AlterTable(_) | Message::CreateSuperTable(_) | Message::AlterSuperTable(_) => {
            }
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
    /// that are gone again wait for the message that says so, not forever.
    pub(super) fn refresh(&mut self, tables: Tables, wal: u64) {
        let before = mem::replace(&mut self.tables, tables);
        let gone: Vec<Uid> = before
            .uids()
            .difference(self.tables.uids())
            .copied()
            .collect();
        for uid in gone {
            self.drop_uid(uid, wal);
        }
        for ((vgroup, name), (windows, since)) in mem::take(&mut self.unnamed) {
            if let Some(uid) = self.tables.uid(&name) {
                if self.maybe_new.contains(&name) {
                    self.created(uid);
                }
                let known = &mut self.changes.entry(uid).or_default().windows;
                for (window, wal) in windows {
                    let newest = known.entry(window).or_insert(wal);
                    *newest = wal.max(*newest);
                }
            } else if since.elapsed() < UNNAMED {
                self.unnamed.insert((vgroup, name), (windows, since));
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
        let mut by_range = 0;
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
            if let Some(wal) = changes.dropped
                && self.everything.is_empty()
            {
                teller.dropped(ordinal, wal)?;
            }
        }
        for everything in &self.everything {
            teller.everything(everything.wal, &everything.why)?;
            by_range += 1;
        }
        Ok(by_range)
    }

    /// What was told is safe. Returns how many messages that were.
    pub(super) fn clear(&mut self) -> u64 {
        self.changes.clear();
        self.everything.clear();
        self.fresh.clear();
        if self.unnamed.is_empty() {
            self.maybe_new.clear();
        }
        mem::take(&mut self.messages)
    }
}
