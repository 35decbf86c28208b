//! One pass over the log: what each record means for a backup, and which reasons come of what can't be read.

use crate::{
    CaptureError, Change, Coverage, Reason, ReasonCode, RowChange, TableChange, change::Sink,
    table_names::TableNames,
};
use model::{KeySpan, Suid, TableId, Version};
use std::{collections::BTreeMap, fs::File, path::Path};
use tdfiles::{
    Beginning,
    wal::{Message, Opaque, Record, SegmentEnd, SegmentReader, SubmitTable},
};

/// The state of one pass over the log.
pub(crate) struct Scan {
    since: Version,
    rows_after: Version,
    reasons: Reasons,
    super_tables: Vec<String>,
    altered: Vec<String>,
    /// The newest version that was wanted, or is missing.
    pub(crate) last: Version,
    /// The newest version in the log, wanted or not.
    pub(crate) newest: Version,
    compactions_show: bool,
    /// Whether the log could not be read to its end.
    pub(crate) cut_short: bool,
    names: TableNames,
}

impl Scan {
    /// A pass that looks for changes later than `since`, and for rows and deletes that are later than `rows_after` as
    /// well. `compactions_show`: the committed files say when they were last compacted.
    pub(crate) fn new(since: Version, rows_after: Version, compactions_show: bool) -> Self {
        Self {
            since,
            rows_after: rows_after.max(since),
            reasons: Reasons::default(),
            super_tables: Vec::new(),
            altered: Vec::new(),
            last: since,
            newest: Version::BEGINNING,
            compactions_show,
            cut_short: false,
            names: TableNames::default(),
        }
    }

    /// Reads a segment. `next` is the first version of the one that follows it; a record later than `final_version` can
    /// still be rolled back and is left out.
    pub(crate) fn segment(
        &mut self,
        mut reader: SegmentReader<Beginning<&File>>,
        path: &Path,
        next: Option<Version>,
        final_version: Option<Version>,
        sink: &mut Sink<'_>,
    ) -> Result<(), CaptureError> {
        let mut unconfirmed = false;
        let end = loop {
            match reader.next_record() {
                Ok(record) if final_version.is_some_and(|last| record.header.version > last) => {
                    unconfirmed = true;
                }
                Ok(record) => self.record(record, path, sink)?,
                Err(end) => break end,
            }
        };
        if unconfirmed {
            let text = "records that the other replicas have not confirmed were left out";
            self.reasons
                .add(ReasonCode::TailNotCommitted, None, text.to_owned());
        }
        let stopped_at = reader.next_version();
        self.newest = self.newest.max(stopped_at.previous());
        self.cut_short |= next.is_none() && !matches!(end, SegmentEnd::Clean);
        let place = path.display();
        match (end, next) {
            (SegmentEnd::Clean, None) => {}
            (SegmentEnd::Clean, Some(next)) if next == stopped_at => {}
            (SegmentEnd::Clean, Some(next)) => self.missing(
                ReasonCode::WalGap,
                next.previous(),
                format!("{place} ends before version {stopped_at}, the next segment begins at {next}"),
            ),
            (SegmentEnd::Short { offset }, None) => self.reasons.add(
                ReasonCode::TailNotCovered,
                None,
                format!("{place}: the record at offset {offset} is not complete; it belongs to the next run"),
            ),
            (SegmentEnd::Bad(error), None) => self.reasons.add(
                ReasonCode::WalCorrupt,
                None,
                format!("{place}: {error}; changes from version {stopped_at} on were left out"),
            ),
            (SegmentEnd::Short { offset }, Some(next)) => self.missing(
                ReasonCode::WalCorrupt,
                next.previous(),
                format!("{place}: the record at offset {offset} is cut off"),
            ),
            (SegmentEnd::Bad(error), Some(next)) => {
                self.missing(ReasonCode::WalCorrupt, next.previous(), format!("{place}: {error}"));
            }
        }
        Ok(())
    }

    /// Records up to and including `last` can't be read. Their rows are in the committed files if those are
    /// read too, and reach that far; what they did to tables stays unknown.
    pub(crate) fn missing(&mut self, code: ReasonCode, last: Version, text: String) {
        self.last = self.last.max(last);
        if last > self.rows_after {
            self.reasons.add(code, Some(KeySpan::ALL), text);
            return;
        }
        if code != ReasonCode::WalPruned {
            self.reasons.add(code, None, text.clone());
        }
        let text =
            format!("{text}: created, dropped and altered tables before that are not listed");
        self.reasons.add(ReasonCode::TablesNotCovered, None, text);
    }

    fn record(
        &mut self,
        record: Record<'_>,
        path: &Path,
        sink: &mut Sink<'_>,
    ) -> Result<(), CaptureError> {
        let version = record.header.version;
        if version <= self.since {
            self.learn_names_of(&record);
            return Ok(());
        }
        self.last = version;
        let rows_wanted = version > self.rows_after;
        let Some(body) = record.body else {
            let range = rows_wanted.then_some(KeySpan::ALL);
            let code = if rows_wanted {
                ReasonCode::WalEncrypted
            } else {
                ReasonCode::TablesNotCovered
            };
            self.reasons.add(
                code,
                range,
                "the WAL is encrypted: only versions and times can be read".to_owned(),
            );
            return Ok(());
        };
        match Message::decode(record.header.message_type, body, record.offset) {
            Ok(message) => {
                self.learn_names(&message);
                self.message(message, version, rows_wanted, sink)
            }
            Err(error) => {
                self.not_understood(rows_wanted, format!("{}: {error}", path.display()));
                Ok(())
            }
        }
    }

    /// Learns names from records before the start. Their other content was told before, so a record that this build does
    /// not understand does no harm there.
    pub(crate) fn learn_names_in(&mut self, reader: &mut SegmentReader<Beginning<&File>>) {
        while let Ok(record) = reader.next_record() {
            self.learn_names_of(&record);
        }
    }

    fn learn_names_of(&mut self, record: &Record<'_>) {
        if let Some(body) = record.body
            && let Ok(message) = Message::decode(record.header.message_type, body, record.offset)
        {
            self.learn_names(&message);
        }
    }

    fn learn_names(&mut self, message: &Message<'_>) {
        match message {
            Message::Submit(tables) => {
                for submit in tables {
                    if let Some(created) = &submit.created {
                        self.names.created(created.name.0, submit.table);
                    }
                }
            }
            Message::CreateTables(tables) => {
                for created in tables {
                    let table = TableId {
                        suid: created.suid,
                        uid: created.uid,
                    };
                    self.names.created(created.name.0, table);
                }
            }
            Message::DropTables(tables) => {
                tables
                    .iter()
                    .for_each(|dropped| self.names.dropped(dropped.name.0));
            }
            Message::DropExpired(uids) => self.names.expired(uids),
            Message::DropSuperTable(stable) => self.names.super_table_dropped(stable.suid),
            _ => {}
        }
    }

    fn not_understood(&mut self, rows_wanted: bool, text: String) {
        if rows_wanted {
            self.reasons
                .add(ReasonCode::WalUnknownMessage, Some(KeySpan::ALL), text);
        } else {
            self.reasons.add(ReasonCode::TablesNotCovered, None, text);
        }
    }

    fn message(
        &mut self,
        message: Message<'_>,
        version: Version,
        rows_wanted: bool,
        sink: &mut Sink<'_>,
    ) -> Result<(), CaptureError> {
        match message {
            Message::Submit(tables) => self.submit(&tables, version, rows_wanted, sink),
            Message::Delete(delete) if rows_wanted && delete.affected != 0 => {
                delete.uids.iter().try_for_each(|uid| {
                    let (suid, uid) = (delete.suid, *uid);
                    sink(Change::Delete {
                        table: TableId { suid, uid },
                        span: delete.span,
                        version,
                    })
                })
            }
            Message::BatchDelete(batch) if rows_wanted => {
                batch.deletes.iter().try_for_each(|(name, span)| {
                    let (name, span) = (&name.to_str(), *span);
                    let change = TableChange::DeletedByName { name, span };
                    sink(Change::Table { version, change })
                })
            }
            Message::Delete(_) | Message::BatchDelete(_) => Ok(()),
            Message::Opaque(opaque) => {
                self.opaque(opaque, version, rows_wanted);
                Ok(())
            }
            // Which file sets it removed shows in the committed files.
            Message::Trim | Message::Ignored(_) => Ok(()),
            tables => self.tables(tables, |change| sink(Change::Table { version, change })),
        }
    }

    fn submit(
        &self,
        tables: &[SubmitTable<'_>],
        version: Version,
        rows_wanted: bool,
        sink: &mut Sink<'_>,
    ) -> Result<(), CaptureError> {
        for submit in tables {
            let either = [Some(submit.table), self.names.may_also_be(submit.table)];
            for table in either.into_iter().flatten() {
                if let Some(created) = &submit.created {
                    let name = &created.name.to_str();
                    let change = TableChange::Created { table, name };
                    sink(Change::Table { version, change })?;
                }
                if rows_wanted
                    && let Some(rows) = RowChange::from_request(table, version, submit.rows)
                {
                    sink(Change::Rows(rows))?;
                }
            }
        }
        Ok(())
    }

    /// A message that creates, drops or alters tables.
    fn tables(
        &mut self,
        message: Message<'_>,
        mut tell: impl FnMut(TableChange<'_>) -> Result<(), CaptureError>,
    ) -> Result<(), CaptureError> {
        match message {
            Message::CreateTables(created) => created.iter().try_for_each(|created| {
                let (suid, uid) = (created.suid, created.uid);
                tell(TableChange::Created {
                    table: TableId { suid, uid },
                    name: &created.name.to_str(),
                })
            }),
            Message::DropTables(dropped) => dropped.iter().try_for_each(|dropped| {
                tell(TableChange::Dropped {
                    uid: dropped.uid,
                    suid: dropped.suid,
                    name: Some(&dropped.name.to_str()),
                })
            }),
            Message::DropExpired(uids) => uids.into_iter().try_for_each(|uid| {
                tell(TableChange::Dropped {
                    uid: Some(uid),
                    suid: Suid(0),
                    name: None,
                })
            }),
            Message::AlterTable(altered) => {
                let name = altered.name.to_str();
                self.altered.push(name.clone().into_owned());
                tell(if altered.changes_tags() {
                    TableChange::TagsAltered { name: &name }
                } else {
                    TableChange::SchemaAltered { name: &name }
                })
            }
            Message::CreateSuperTable(stable) => {
                let (suid, name) = (stable.suid, &stable.name.to_str());
                self.super_tables.push(format!("{name} created"));
                tell(TableChange::SuperTableCreated { suid, name })
            }
            Message::AlterSuperTable(stable) => {
                let (suid, name) = (stable.suid, &stable.name.to_str());
                self.super_tables.push(format!("{name} altered"));
                tell(TableChange::SuperTableAltered { suid, name })
            }
            Message::DropSuperTable(stable) => {
                let (suid, name) = (stable.suid, &stable.name.to_str());
                self.super_tables
                    .push(format!("{name} (id {suid}) dropped with all its tables"));
                tell(TableChange::SuperTableDropped { suid, name })
            }
            _ => Ok(()),
        }
    }

    /// A message whose effect on rows its body does not tell.
    fn opaque(&mut self, opaque: Opaque, version: Version, rows_wanted: bool) {
        let all = Some(KeySpan::ALL);
        match opaque {
            // The committed files that have the time of their last compaction tell which one it was.
            Opaque::Compact if self.compactions_show => {}
            Opaque::Compact => {
                let text = format!(
                    "version {version} compacted files, which may have applied and forgotten deletes"
                );
                self.reasons.add(ReasonCode::FileSetCompacted, all, text);
            }
            Opaque::HashRangeChanged | Opaque::MembersChanged => {
                let text = format!("version {version} split the vgroup or changed its members");
                self.reasons.add(ReasonCode::VgroupReshaped, all, text);
            }
            Opaque::Unknown(number) => {
                let text = format!("version {version} is a message of unknown type {number}");
                self.not_understood(rows_wanted, text);
            }
        }
    }

    /// What the pass proves.
    pub(crate) fn finish(mut self) -> Coverage {
        let listed = |names: &[String]| {
            let shown = names.iter().take(5).cloned().collect::<Vec<_>>().join(", ");
            if names.len() > 5 {
                format!("{shown} and {} more", names.len() - 5)
            } else {
                shown
            }
        };
        if !self.super_tables.is_empty() {
            let text = format!("super tables: {}", listed(&self.super_tables));
            self.reasons.add(ReasonCode::SuperTablesChanged, None, text);
        }
        if !self.altered.is_empty() {
            let text = format!(
                "columns, tags or options of tables changed: {}",
                listed(&self.altered)
            );
            self.reasons.add(ReasonCode::TablesAltered, None, text);
        }
        Coverage {
            from: self.since,
            to: self.last,
            reasons: self.reasons.finish(),
        }
    }
}

/// Reasons, one per code and range: a thousand records of one kind make one reason.
#[derive(Default)]
struct Reasons(BTreeMap<(u8, bool), (Reason, u64)>);

impl Reasons {
    fn add(&mut self, code: ReasonCode, range: Option<KeySpan>, text: String) {
        self.0
            .entry((code as u8, range.is_some()))
            .and_modify(|(_, more)| *more += 1)
            .or_insert((Reason { code, text, range }, 0));
    }

    fn finish(self) -> Vec<Reason> {
        self.0
            .into_values()
            .map(|(mut reason, more)| {
                if more > 0 {
                    reason.text += &format!(" (and {more} more of this kind)");
                }
                reason
            })
            .collect()
    }
}
