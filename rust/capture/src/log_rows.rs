//! The rows that only the log has: those that are later than what is committed to files.
//!
//! A request in the log need not have been carried out: the server looks at it again when its turn comes, and refuses it as a
//! whole if a table is gone, has other columns by then, or a row is older than KEEP. So the log is gone through in its order
//! with the tables that there are at each request. Where it is not sure that a request was carried out, or on which table,
//! nothing is said about the keys that it writes, and somebody else has to be asked for them.
//! (vnodeProcessSubmitReq of server 3.3.7.)

use crate::{
    CaptureError, VnodeDir,
    known_tables::{KnownTables, Wanted, owner},
    row_choice::RowChoice,
    wal_source::WalSource,
};
use model::{FileSetId, Key, KeySpan, SchemaVersion, Suid, TableId, Uid, Version};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fs::File,
    path::PathBuf,
    time::{SystemTime, UNIX_EPOCH},
};
use tdfiles::{
    FormatError, ReadAt,
    schema::Schema,
    tsdb::{RowBlock, TombRecord},
    vnode_json::VnodeJson,
    wal::{CreatedTable, HEADER_SIZE, LoggedRows, Message, Opaque, Record, SubmitTable},
};

/// The most cells that are collected of one table: with 8 bytes each half a GiB.
const MAX_CELLS: usize = 1 << 26;

/// What is known of a log's rows.
#[derive(Debug)]
pub(crate) enum InLog {
    /// All of them.
    Rows(LogRows),
    /// Nothing for sure, as it is encrypted, has gaps, or says something that this build does not know.
    Unknown,
    /// The vnode was committed meanwhile.
    Committed,
}

/// The rows and deletes later than what is committed. Only where each is in the log is kept in memory.
#[derive(Debug)]
pub(crate) struct LogRows {
    /// The last version that was looked at.
    last: Version,
    files: HashMap<usize, (PathBuf, File)>,
    parts: BTreeMap<TableId, Vec<Part>>,
    /// The columns of super tables and normal tables.
    schemas: HashMap<(Uid, SchemaVersion), Schema>,
    deletes: Vec<LoggedDelete>,
    doubtful: BTreeMap<TableId, Vec<KeySpan>>,
    file_sets: BTreeSet<FileSetId>,
}

/// The rows that one request writes to one table.
#[derive(Debug)]
struct Part {
    version: Version,
    schema: SchemaVersion,
    span: KeySpan,
    segment: usize,
    offset: u64,
    len: usize,
}

#[derive(Debug)]
struct LoggedDelete {
    suid: Suid,
    uids: Vec<Uid>,
    span: KeySpan,
    version: Version,
}

impl LogRows {
    /// Finds the rows of a log whose first segment begins no later than what follows the committed version.
    pub(crate) fn read(
        dir: &VnodeDir,
        log: &WalSource,
        vnode: &VnodeJson,
    ) -> Result<InLog, CaptureError> {
        if vnode.wal_encrypted {
            return Ok(InLog::Unknown);
        }
        let mut wanted = Wanted::default();
        let known = log.each_record(vnode.committed, &mut |_, record| {
            message(record).is_some_and(|message| want(&mut wanted, &message))
        })?;
        if !known {
            return Ok(InLog::Unknown);
        }
        let tables = match KnownTables::read(dir, &wanted) {
            Ok(tables) => tables,
            Err(CaptureError::Format { .. }) => return Ok(InLog::Unknown),
            Err(error) => return Err(error),
        };
        if tables.at != vnode.committed {
            return Ok(InLog::Committed);
        }
        Ok(match Self::of(log, vnode, tables, oldest(vnode))? {
            Some(rows) => InLog::Rows(rows),
            None => InLog::Unknown,
        })
    }

    /// The rows that are later than what is known of tables; `None` if they can't be told for sure. Requests with rows before
    /// `oldest` may have been refused.
    pub(crate) fn of(
        log: &WalSource,
        vnode: &VnodeJson,
        tables: KnownTables,
        oldest: Key,
    ) -> Result<Option<Self>, CaptureError> {
        let mut rows = Self::none(tables.at);
        let mut replay = Replay {
            vnode,
            tables,
            oldest,
            rows: &mut rows,
        };
        let after = replay.tables.at;
        let known =
            log.each_record(after, &mut |segment, record| replay.record(segment, record))?;
        if !known {
            return Ok(None);
        }
        let needed: BTreeSet<usize> = rows
            .parts
            .values()
            .flatten()
            .map(|part| part.segment)
            .collect();
        for (number, segment) in log.segments().iter().enumerate() {
            if needed.contains(&number) {
                let path = segment.path.clone();
                let file = segment.file.try_clone().map_err(CaptureError::io(&path))?;
                rows.files.insert(number, (path, file));
            }
        }
        Ok(Some(rows))
    }

    /// The rows later than what is committed, of a log that also tells which tables there were by then.
    #[cfg(feature = "internals")]
    pub(crate) fn of_whole(
        log: &WalSource,
        vnode: &VnodeJson,
        oldest: Key,
    ) -> Result<Option<Self>, CaptureError> {
        let mut forgotten = Self::none(Version::BEGINNING);
        let mut replay = Replay {
            vnode,
            tables: KnownTables::none(Version::BEGINNING),
            oldest,
            rows: &mut forgotten,
        };
        let known = log.each_record(Version::BEGINNING, &mut |segment, record| {
            record.header.version > vnode.committed || replay.record(segment, record)
        })?;
        let mut tables = replay.tables;
        tables.at = vnode.committed;
        match known {
            true => Self::of(log, vnode, tables, oldest),
            false => Ok(None),
        }
    }

    /// No rows later than this.
    fn none(last: Version) -> Self {
        Self {
            last,
            files: HashMap::new(),
            parts: BTreeMap::new(),
            schemas: HashMap::new(),
            deletes: Vec::new(),
            doubtful: BTreeMap::new(),
            file_sets: BTreeSet::new(),
        }
    }

    /// The last version that was looked at.
    pub(crate) fn last(&self) -> Version {
        self.last
    }

    /// The file sets that rows of the log belong to.
    pub(crate) fn file_sets(&self) -> impl Iterator<Item = FileSetId> + '_ {
        self.file_sets.iter().copied()
    }

    /// The deletes of wanted tables.
    pub(crate) fn deletes(&self, is_wanted: impl Fn(TableId) -> bool) -> Vec<TombRecord> {
        let mut records = Vec::new();
        for delete in &self.deletes {
            let (suid, version, span) = (delete.suid, delete.version, delete.span);
            let tables = delete.uids.iter().map(|uid| TableId { suid, uid: *uid });
            records.extend(
                tables
                    .filter(|table| is_wanted(*table))
                    .map(|table| TombRecord {
                        table,
                        version,
                        span,
                    }),
            );
        }
        records
    }

    /// Notes the keys in `range` of which the log says nothing for sure.
    pub(crate) fn note_doubts(&self, choice: &RowChoice<'_>, range: KeySpan) {
        for (table, spans) in &self.doubtful {
            for span in spans.iter().filter(|span| span.overlaps(range)) {
                choice.cant_read(*table, within(*span, range));
            }
        }
    }

    /// The tables with rows in `range` that are wanted, one block each, in their order.
    pub(crate) fn blocks<'a>(
        &'a self,
        choice: &'a RowChoice<'_>,
        range: KeySpan,
    ) -> impl FnMut() -> Result<Option<RowBlock>, CaptureError> + 'a {
        let mut tables = self.parts.iter();
        move || {
            for (table, parts) in tables.by_ref() {
                let parts: Vec<&Part> = parts
                    .iter()
                    .filter(|part| {
                        part.span.overlaps(range) && choice.wants_some(*table, part.span)
                    })
                    .collect();
                match self.block(*table, &parts, range)? {
                    Ok(Some(block)) => return Ok(Some(block)),
                    Ok(None) => {}
                    Err(()) => {
                        let spans = parts.iter().map(|part| part.span);
                        if let Some(span) = spans.reduce(KeySpan::hull) {
                            choice.cant_read(*table, within(span, range));
                        }
                    }
                }
            }
            Ok(None)
        }
    }

    /// The rows of a table that lie in `range`, if there are any; an error inside if they can't be read.
    fn block(
        &self,
        table: TableId,
        parts: &[&Part],
        range: KeySpan,
    ) -> Result<Result<Option<RowBlock>, ()>, CaptureError> {
        let mut rows = LoggedRows::new(table, MAX_CELLS);
        let mut bytes = Vec::new();
        for part in parts {
            let (Some((path, file)), Some(schema)) = (
                self.files.get(&part.segment),
                self.schemas.get(&(owner(table), part.schema)),
            ) else {
                return Ok(Err(()));
            };
            bytes.resize(part.len, 0);
            read_exact(file, &mut bytes, part.offset).map_err(CaptureError::io(path))?;
            let added = SubmitTable::parse(&bytes, part.offset)
                .and_then(|request| rows.add(part.version, &request, schema, range));
            match added {
                Ok(()) => {}
                Err(FormatError::Io { source, .. }) => return Err(CaptureError::io(path)(source)),
                Err(_) => return Ok(Err(())),
            }
        }
        Ok(rows.into_block().map_err(|_| ()))
    }
}

/// The keys that lie in both of two spans that overlap.
fn within(span: KeySpan, range: KeySpan) -> KeySpan {
    KeySpan {
        first: span.first.max(range.first),
        last: span.last.min(range.last),
    }
}

fn read_exact(file: &File, bytes: &mut [u8], offset: u64) -> std::io::Result<()> {
    let mut read = 0;
    while let Some(rest) = bytes.get_mut(read..).filter(|rest| !rest.is_empty()) {
        match ReadAt::read_at(file, rest, offset + read as u64) {
            Ok(0) => return Err(std::io::ErrorKind::UnexpectedEof.into()),
            Ok(n) => read += n,
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

/// How far clocks may differ, in minutes.
const CLOCKS_MINUTES: i64 = 60;

/// The first key of which it is sure that KEEP did not make the server refuse it.
fn oldest(vnode: &VnodeJson) -> Key {
    let Some(keep) = vnode.options.keep2 else {
        return Key(i64::MIN);
    };
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH);
    let now = since_epoch.map_or(0, |now| now.as_secs());
    let second = i128::from(now) - i128::from(keep.saturating_sub(CLOCKS_MINUTES)) * 60;
    let key = second * i128::from(vnode.precision.ticks_per_second());
    Key(key.clamp(i64::MIN.into(), i64::MAX.into()) as i64)
}

/// What a record says; `None` if this build can't tell.
fn message<'a>(record: &Record<'a>) -> Option<Message<'a>> {
    let offset = record.offset + HEADER_SIZE as u64;
    Message::decode(record.header.message_type, record.body?, offset).ok()
}

/// Notes what has to be known to understand a message. Tells whether that is possible at all.
fn want(wanted: &mut Wanted, message: &Message<'_>) -> bool {
    match message {
        Message::Submit(tables) => {
            for submit in tables {
                if let Some(created) = &submit.created {
                    wanted.names.insert(created.name.0.into());
                }
                if submit.table.suid == Suid(0) {
                    wanted.normal_tables.insert(submit.table.uid);
                }
            }
        }
        Message::CreateTables(tables) => {
            let names = tables.iter().map(|created| created.name.0.into());
            wanted.names.extend(names);
        }
        Message::AlterTable(altered) => drop(wanted.names.insert(altered.name.0.into())),
        Message::DropTables(tables) => return tables.iter().all(|dropped| dropped.uid.is_some()),
        // By name, from streams.
        Message::BatchDelete(_) => return false,
        Message::Opaque(Opaque::Compact) => {}
        Message::Opaque(_) => return false,
        Message::Delete(_)
        | Message::DropExpired(_)
        | Message::CreateSuperTable(_)
        | Message::AlterSuperTable(_)
        | Message::DropSuperTable(_)
        | Message::Trim
        | Message::Ignored(_) => {}
    }
    true
}

/// One pass over the log with the tables that there are at each request.
struct Replay<'a> {
    vnode: &'a VnodeJson,
    tables: KnownTables,
    oldest: Key,
    rows: &'a mut LogRows,
}

impl Replay<'_> {
    /// Takes one record; tells whether it is understood.
    fn record(&mut self, segment: usize, record: &Record<'_>) -> bool {
        let version = record.header.version;
        let offset = record.offset + HEADER_SIZE as u64;
        self.rows.last = version;
        let Some(message) = message(record) else {
            return false;
        };
        match message {
            Message::Submit(tables) => self.submit(version, segment, offset, &tables),
            Message::Delete(delete) if delete.affected != 0 => {
                self.rows.deletes.push(LoggedDelete {
                    suid: delete.suid,
                    uids: delete.uids,
                    span: delete.span,
                    version,
                });
            }
            Message::CreateTables(tables) => tables.iter().for_each(|created| self.create(created)),
            Message::DropTables(tables) => {
                for dropped in tables {
                    match dropped.uid {
                        Some(uid) => self.tables.drop_table(uid),
                        None => return false,
                    }
                }
            }
            Message::DropExpired(uids) => {
                uids.into_iter().for_each(|uid| self.tables.drop_table(uid));
            }
            Message::AlterTable(altered) if altered.changes_columns() => {
                match self.tables.named(altered.name.0) {
                    Some(uid) => self.tables.set_columns(uid, None),
                    None => return false,
                }
            }
            Message::CreateSuperTable(stable) if self.tables.has_super(stable.suid) => {}
            Message::CreateSuperTable(stable) | Message::AlterSuperTable(stable) => {
                self.tables.add_super(stable.suid);
                let columns = stable.columns().ok();
                self.tables.set_columns(Uid(stable.suid.0), columns);
            }
            Message::DropSuperTable(stable) => self.tables.drop_super(stable.suid),
            // It rewrites files.
            Message::Opaque(Opaque::Compact) => {}
            Message::BatchDelete(_) | Message::Opaque(_) => return false,
            Message::Delete(_) | Message::AlterTable(_) | Message::Trim | Message::Ignored(_) => {}
        }
        true
    }

    /// A table is created, unless its name is taken.
    fn create(&mut self, created: &CreatedTable<'_>) {
        if self.tables.named(created.name.0).is_some() {
            return;
        }
        let (suid, uid) = (created.suid, created.uid);
        self.tables.add(created.name.0, TableId { suid, uid });
        if let Some(columns) = created.columns() {
            self.tables.set_columns(uid, columns.ok());
        }
    }

    fn submit(
        &mut self,
        version: Version,
        segment: usize,
        offset: u64,
        requests: &[SubmitTable<'_>],
    ) {
        let mut tables: Vec<TableId> = requests.iter().map(|request| request.table).collect();
        tables.sort_unstable();
        // Of a table that is in a request twice, it is not clear which rows are the newer ones.
        let is_sure = tables.is_sorted_by(|a, b| a < b)
            && requests.iter().all(|request| self.is_carried_out(request));
        for request in requests {
            let Some(span) = request.rows.span() else {
                continue;
            };
            self.count_file_sets(request);
            if is_sure {
                self.add(version, segment, offset, span, request);
                continue;
            }
            self.doubt(request.table, span);
            let named = request.created.as_ref();
            if let Some(uid) = named.and_then(|created| self.tables.named(created.name.0)) {
                let suid = request.table.suid;
                self.doubt(TableId { suid, uid }, span);
            }
        }
        for created in requests
            .iter()
            .filter_map(|request| request.created.as_ref())
        {
            self.create(created);
        }
    }

    fn doubt(&mut self, table: TableId, span: KeySpan) {
        let spans = self.rows.doubtful.entry(table).or_default();
        spans.push(span);
        // Thousands of requests, each a little later than the one before.
        if spans.len().is_power_of_two() {
            *spans = KeySpan::joined(std::mem::take(spans));
        }
    }

    /// Whether the server surely took the rows, and for this table.
    fn is_carried_out(&self, request: &SubmitTable<'_>) -> bool {
        let (table, schema) = (request.table, request.schema);
        let has_columns = |schema| self.tables.schema(table, schema).is_some();
        let fits = match &request.created {
            None => {
                self.tables.has(table)
                    && self.tables.newest(table) == Some(schema)
                    && has_columns(schema)
            }
            // The name may stand for another table, which gets the rows then.
            Some(created) => {
                let own = match table.suid {
                    Suid(0) => created.columns().is_some_and(|columns| {
                        columns.is_ok_and(|columns| columns.version == schema)
                    }),
                    suid => self.tables.has_super(suid) && has_columns(schema),
                };
                match self.tables.named(created.name.0) {
                    None => own && created.uid == table.uid,
                    Some(uid) => uid == table.uid && self.tables.has(table) && has_columns(schema),
                }
            }
        };
        fits && (request.rows.is_empty() || self.are_taken(request))
    }

    /// Whether each key comes after the one before and none is too old.
    fn are_taken(&self, request: &SubmitTable<'_>) -> bool {
        if request
            .rows
            .span()
            .is_some_and(|span| span.first < self.oldest)
        {
            return false;
        }
        if request.rows.has_composite_keys() {
            return request
                .rows
                .keys()
                .is_ok_and(|keys| keys.is_sorted_by(|a, b| (a.key, &a.pk) < (b.key, &b.pk)));
        }
        let (mut last, mut ascending) = (None, true);
        request
            .rows
            .for_each_key(|key| ascending &= last.replace(key) < Some(key));
        ascending
    }

    fn count_file_sets(&mut self, request: &SubmitTable<'_>) {
        let mut last: Option<KeySpan> = None;
        request.rows.for_each_key(|key| {
            if last.is_none_or(|range| !range.overlaps(KeySpan::at(key))) {
                let set = self.vnode.file_set_of(key);
                self.rows.file_sets.insert(set);
                last = Some(self.vnode.key_range(set));
            }
        });
    }

    fn add(
        &mut self,
        version: Version,
        segment: usize,
        offset: u64,
        span: KeySpan,
        request: &SubmitTable<'_>,
    ) {
        let (table, version_of_columns) = (request.table, request.schema);
        let key = (owner(table), version_of_columns);
        if !self.rows.schemas.contains_key(&key) {
            let created = request.created.as_ref();
            let own = || created?.columns()?.ok();
            let known = self.tables.schema(table, version_of_columns);
            if let Some(schema) = known.cloned().or_else(own) {
                self.rows.schemas.insert(key, schema);
            }
        }
        self.rows.parts.entry(table).or_default().push(Part {
            version,
            schema: version_of_columns,
            span,
            segment,
            offset: offset + request.place.start as u64,
            len: request.place.len(),
        });
    }
}
