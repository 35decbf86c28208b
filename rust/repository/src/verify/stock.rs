//! A dump of an unpatched taosdump: nothing in it says what it should hold, so each file is decoded, and a list of
//! blocks is looked for in it row by row.

use super::{BlocksReport, Problem, ProblemCode, Problems, coverage::NAMED};
use apache_avro::{Reader, types::Value};
use bitmap::BlockState;
use capture::ReasonCode;
use model::{Progress, Uid, catalogue::after_name};
use plan::{BlockPlan, TablePlan, report::Blocks};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    io::BufReader,
    path::Path,
};
use store::{PARTIAL, Store};

/// A directory that looks like such a dump.
pub(super) struct Dump<'a> {
    store: &'a dyn Store,
    /// The names of its files.
    names: Vec<String>,
}

impl<'a> Dump<'a> {
    /// Looks at a place without a manifest. A link that lost its manifest, or that a killed dump left half moved to its
    /// place, looks like such a dump, but for what only a dump of ours leaves.
    pub(super) fn find(store: &'a dyn Store) -> Option<Self> {
        let mut names = store.names().ok()?;
        names.sort();
        let ours = |name: &String| {
            let first = name.split('/').next().unwrap_or_default();
            first == "incremental" || first.starts_with(PARTIAL)
        };
        let main = store.get("dbs.sql").ok()?;
        (main.starts_with(b"#!") && !names.iter().any(ours)).then_some(Self { store, names })
    }

    /// Where it is, for messages.
    pub(super) fn place(&self) -> String {
        self.store.place("")
    }

    fn text(&self, name: &str) -> Result<String, String> {
        let bytes = self.store.get(name).map_err(|error| error.to_string())?;
        String::from_utf8(bytes).map_err(|_| format!("{}: it is not UTF-8", self.store.place(name)))
    }
}

/// What was read of a dump.
#[derive(Default)]
pub(super) struct Read {
    pub(super) files: u64,
    pub(super) bytes: u64,
    pub(super) rows: u64,
}

/// The blocks of a list, with how many of their rows were met.
pub(super) struct Wanted<'a> {
    file: &'a Path,
    blocks: &'a Blocks,
    /// By table name: its blocks in order, and rows met in each.
    tables: BTreeMap<&'a str, Vec<(&'a BlockPlan, u64)>>,
    /// Tables whose creation was met.
    created: HashSet<String>,
}

impl<'a> Wanted<'a> {
    pub(super) fn of(file: &'a Path, blocks: &'a Blocks) -> Self {
        let mut by_uid: HashMap<Uid, Vec<(&BlockPlan, u64)>> = HashMap::new();
        for block in &blocks.plan.blocks {
            by_uid.entry(block.uid).or_default().push((block, 0));
        }
        let live = live(blocks);
        let named = live.filter_map(|table| {
            let blocks = by_uid.remove(&table.table.uid).unwrap_or_default();
            Some((table.name.as_deref()?, blocks))
        });
        Self {
            file,
            blocks,
            tables: named.collect(),
            created: HashSet::new(),
        }
    }

    fn row(&mut self, table: &str, key: i64) {
        let Some(blocks) = self.tables.get_mut(table) else {
            return;
        };
        let at = blocks.partition_point(|(block, _)| block.span.last.0 < key);
        if let Some((block, met)) = blocks.get_mut(at)
            && block.span.first.0 <= key
        {
            *met += 1;
        }
    }

    /// What is missing.
    pub(super) fn finish(self, problems: &mut Problems) -> BlocksReport {
        let file = self.file.display().to_string();
        let mut missing = Vec::new();
        let mut beyond = Vec::new();
        let mut covered = 0;
        for table in &self.blocks.plan.tables {
            let before = (missing.len(), beyond.len());
            self.table(table, &mut missing, &mut beyond);
            covered += u64::from(before == (missing.len(), beyond.len()));
        }
        for vgroup in &self.blocks.plan.vgroups {
            let widening = vgroup.reasons.iter().filter(|reason| {
                reason.range.is_some() && reason.code != ReasonCode::UnreadableRows
            });
            beyond.extend(widening.map(|reason| {
                format!(
                    "vgroup {}: rows of every table in a range that is dirty as a whole can't be told from others ({})",
                    vgroup.vgroup, reason.text
                )
            }));
        }
        let kinds = [
            (
                ProblemCode::NotCovered,
                missing,
                "dump again, without a range of time",
            ),
            (
                ProblemCode::NotInAStockDump,
                beyond,
                "dump with taosdump --incremental, which keeps and restores it, or export the blocks with --export",
            ),
        ];
        for (code, mut found, remedy) in kinds {
            let unnamed = found.len().saturating_sub(NAMED);
            found.truncate(NAMED);
            if unnamed > 0 {
                found.push(format!("and {unnamed} more"));
            }
            problems.0.extend(found.into_iter().map(|problem| Problem {
                code,
                link: None,
                file: Some(file.clone()),
                text: format!("{file}: {problem}; {remedy}"),
            }));
        }
        BlocksReport {
            file,
            database: self.blocks.database.clone(),
            tables: self.blocks.plan.tables.len() as u64,
            tables_covered: covered,
        }
    }

    fn table(&self, table: &TablePlan, missing: &mut Vec<String>, beyond: &mut Vec<String>) {
        let uid = table.table.uid;
        let Some(name) = &table.name else {
            if table.state != BlockState::Deleted {
                beyond.push(format!(
                    "the table with uid {uid} has no name in the list, so it can't be looked for; detect with --host"
                ));
            }
            return;
        };
        if table.state == BlockState::Deleted {
            beyond.push(format!("table {name:?} was dropped"));
            return;
        }
        if !self.created.contains(name) {
            return missing.push(format!("table {name:?} is not in the dump"));
        }
        for (block, met) in self.tables.get(name.as_str()).into_iter().flatten() {
            let deleted = table
                .deletes
                .iter()
                .any(|(span, _)| span.overlaps(block.span));
            if *met < block.rows && !deleted {
                missing.push(format!(
                    "table {name:?}: {} rows changed at keys {} to {}, and the dump holds {met} there",
                    block.rows, block.span.first, block.span.last
                ));
            }
        }
        if !table.deletes.is_empty() {
            beyond.push(format!("rows of table {name:?} were deleted"));
        }
        if table.rows.is_none() {
            beyond.push(format!(
                "table {name:?}: some changed rows are known only by their range, and can't be counted"
            ));
        }
    }
}

fn live(blocks: &Blocks) -> impl Iterator<Item = &TablePlan> {
    let tables = blocks.plan.tables.iter();
    tables.filter(|table| table.state != BlockState::Deleted)
}

/// Decodes every file of a dump.
pub(super) fn check(
    dump: &Dump<'_>,
    mut wanted: Option<&mut Wanted<'_>>,
    progress: &dyn Progress,
    problems: &mut Problems,
) -> Read {
    let mut read = Read::default();
    let place = dump.place();
    let databases = match databases(dump) {
        Ok(databases) => databases,
        Err(error) => {
            let code = ProblemCode::FileUnreadable;
            problems.add(code, Some(&place), Some("dbs.sql"), error);
            return read;
        }
    };
    if let Some(wanted) = wanted.as_deref()
        && !databases
            .iter()
            .any(|(name, _)| *name == wanted.blocks.database)
    {
        problems.add(
            ProblemCode::NotCovered,
            Some(&place),
            None,
            format!(
                "{place}: it holds no database {:?}; give the dump of that one",
                wanted.blocks.database
            ),
        );
    }
    for (name, directory) in databases {
        let mut wanted = wanted
            .as_deref_mut()
            .filter(|wanted| wanted.blocks.database == name);
        let below = format!("{directory}/");
        let files = dump.names.iter().filter(|name| name.starts_with(&below));
        for file in files.filter(|name| kind(name).is_some()) {
            if progress.is_cancelled() {
                return read;
            }
            let bytes = dump.store.length(file).unwrap_or(0);
            read.files += 1;
            read.bytes += bytes;
            match decode(dump.store, file, wanted.as_deref_mut()) {
                Ok(rows) => read.rows += rows,
                Err(error) => problems.add(
                    ProblemCode::ContentUnreadable,
                    Some(&place),
                    Some(file),
                    format!("{}: {error}; dump again", dump.store.place(file)),
                ),
            }
            progress.advance(bytes, 0);
        }
    }
    read
}

/// The databases of a dump, with their directories. The main `dbs.sql` names the databases; the one in a directory
/// creates the database that it is of.
fn databases(dump: &Dump<'_>) -> Result<Vec<(String, String)>, String> {
    let mut found = Vec::new();
    let directories: BTreeSet<&str> = dump
        .names
        .iter()
        .filter_map(|name| Some(name.split_once('/')?.0))
        .filter(|directory| directory.starts_with("taosdump."))
        .collect();
    for directory in directories {
        let text = dump.text(&format!("{directory}/dbs.sql"))?;
        let name = text.lines().find_map(created).ok_or_else(|| {
            let file = dump.store.place(&format!("{directory}/dbs.sql"));
            format!("{file} creates no database; dump again")
        })?;
        found.push((name, directory.to_owned()));
    }
    let main = dump.text("dbs.sql")?;
    for line in main.lines() {
        let named = line.strip_prefix("#!dumpdb: ");
        if let Some((name, _)) = named.and_then(|rest| rest.rsplit_once(": ")) {
            let name = name.trim_matches('`');
            if !found.iter().any(|(other, _)| other == name) {
                return Err(format!(
                    "{} names database {name:?}, of which there is no directory; dump again",
                    dump.store.place("dbs.sql")
                ));
            }
        }
    }
    found.sort();
    Ok(found)
}

/// The database that a line creates.
fn created(line: &str) -> Option<String> {
    let rest = line.strip_prefix("CREATE DATABASE IF NOT EXISTS ")?;
    let Some(quoted) = rest.strip_prefix('`') else {
        return rest.split_whitespace().next().map(str::to_owned);
    };
    let after = after_name(rest)?;
    let name = quoted.get(..quoted.len() - after.len() - 1)?;
    Some(name.replace("``", "`"))
}

/// What a file of a dump holds.
#[derive(Clone, Copy, PartialEq, Eq)]
enum FileKind {
    /// Rows of one table.
    Rows,
    /// Tags of children, or statements that create normal tables.
    Tables,
}

fn kind(name: &str) -> Option<FileKind> {
    match name.rsplit_once('.')?.1 {
        "avro" => Some(FileKind::Rows),
        "avro-tbtags" | "avro-ntb" => Some(FileKind::Tables),
        _ => None,
    }
}

/// Reads all records of a file; returns how many.
fn decode(
    store: &dyn Store,
    name: &str,
    mut wanted: Option<&mut Wanted<'_>>,
) -> Result<u64, String> {
    let file = store.open(name).map_err(|error| error.to_string())?;
    let reader =
        Reader::new(BufReader::with_capacity(1 << 16, file)).map_err(|error| error.to_string())?;
    let rows_of_a_table = kind(name) == Some(FileKind::Rows);
    let mut count = 0;
    for record in reader {
        let Value::Record(fields) = record.map_err(|error| error.to_string())? else {
            return Err("it holds something else than records".to_owned());
        };
        count += 1;
        let Some(wanted) = wanted.as_deref_mut() else {
            continue;
        };
        let Some(name) = field(&fields, "tbname").and_then(text) else {
            return Err("a record names no table".to_owned());
        };
        match rows_of_a_table {
            false => drop(wanted.created.insert(name.to_owned())),
            true => match field(&fields, "ts") {
                Some(Value::Long(key)) => wanted.row(name, *key),
                _ => return Err("a row has no timestamp".to_owned()),
            },
        }
    }
    Ok(count)
}

fn field<'v>(fields: &'v [(String, Value)], name: &str) -> Option<&'v Value> {
    let (_, value) = fields.iter().find(|(field, _)| field == name)?;
    Some(match value {
        Value::Union(_, value) => value,
        value => value,
    })
}

fn text(value: &Value) -> Option<&str> {
    match value {
        Value::String(text) => Some(text),
        Value::Bytes(bytes) => std::str::from_utf8(bytes).ok(),
        _ => None,
    }
}
