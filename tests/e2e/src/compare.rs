//! Everything a database holds, as SQL tells it, and where two databases differ. Names of databases, uids and times
//! of creation do not count: a restored database has others.

use crate::{Cell, Connection, SqlError, client::patiently};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Debug,
};

/// The content of one database at one moment. The database must not be written to while it is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Content {
    /// What CREATE DATABASE says behind the name.
    options: String,
    stables: BTreeMap<String, Stable>,
    tables: BTreeMap<String, Table>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Stable {
    /// CREATE STABLE.
    create: String,
    columns: Vec<Column>,
    tags: Vec<Column>,
}

/// A column as DESCRIBE shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Column {
    name: String,
    /// Type, length, note, encode, compress, level.
    properties: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Table {
    /// Its super table; none of a normal table.
    stable: String,
    /// Type, ttl, comment.
    properties: Vec<String>,
    /// CREATE TABLE and columns of a normal table; a child has its super table's.
    create: String,
    columns: Vec<Column>,
    tags: Vec<Cell>,
    /// In the order of their keys, which come first in a row.
    rows: Vec<Vec<Cell>>,
}

/// A name as SQL takes it, whatever it holds.
pub fn quoted(name: &str) -> String {
    format!("`{}`", name.replace('`', "``"))
}

impl Content {
    /// Reads all of it.
    pub fn read(c: &Connection, database: &str) -> Result<Self, SqlError> {
        patiently(|| Self::read_once(c, database))
    }

    fn read_once(c: &Connection, database: &str) -> Result<Self, SqlError> {
        let db = quoted(database);
        // The client library answers SHOW CREATE from its memory, whatever another client has altered.
        c.execute("reset query cache")?;
        let path = |name: &str| format!("{db}.{}", quoted(name));
        let of_database = format!("where db_name = {}", Cell::Text(database.into()).literal());
        let mut stables = BTreeMap::new();
        let names = c.query(&format!(
            "select stable_name from information_schema.ins_stables {of_database}"
        ))?;
        for name in names.into_iter().flatten() {
            let (columns, tags) = describe(c, &path(&name))?;
            let create = show_create(c, "stable", &path(&name))?;
            let stable = Stable {
                create,
                columns,
                tags,
            };
            stables.insert(name, stable);
        }
        let mut tables = BTreeMap::new();
        let listed = c.query(&format!(
            "select table_name, stable_name, type, `ttl`, table_comment \
             from information_schema.ins_tables {of_database}"
        ))?;
        for row in listed {
            let mut table = Table {
                stable: row[1].clone(),
                properties: row[2..].to_vec(),
                ..Table::default()
            };
            if table.stable.is_empty() {
                table.create = show_create(c, "table", &path(&row[0]))?;
                table.columns = describe(c, &path(&row[0]))?.0;
                let columns = list(&table.columns);
                table.rows = c.rows(&format!("select {columns} from {}", path(&row[0])))?;
            }
            tables.insert(row[0].clone(), table);
        }
        // All children of a super table at once: a query for each would take as long as the backup.
        for (name, stable) in &stables {
            let (tags, columns) = (list(&stable.tags), list(&stable.columns));
            for row in c.rows(&format!("select tags tbname, {tags} from {}", path(name)))? {
                child(&mut tables, &row).tags = row[1..].to_vec();
            }
            for row in c.rows(&format!("select tbname, {columns} from {}", path(name)))? {
                child(&mut tables, &row).rows.push(row[1..].to_vec());
            }
        }
        for table in tables.values_mut() {
            table.rows.sort();
        }
        let options = show_create(c, "database", &db)?;
        let options = options.strip_prefix(&format!("CREATE DATABASE {db} "));
        Ok(Self {
            options: options.unwrap_or_default().to_owned(),
            stables,
            tables,
        })
    }

    /// How many tables it has, super tables not counted.
    pub fn tables(&self) -> usize {
        self.tables.len()
    }

    /// How many rows it has.
    pub fn rows(&self) -> usize {
        self.tables.values().map(|table| table.rows.len()).sum()
    }

    /// The tables that only the other has or lacks, or in which it has other rows: each with the keys of these rows. Rows of
    /// tables whose columns are others count as the same.
    pub fn changed_keys(&self, other: &Self) -> BTreeMap<String, BTreeSet<i64>> {
        let mut changed = BTreeMap::new();
        let names: BTreeSet<&String> = self.tables.keys().chain(other.tables.keys()).collect();
        let nothing = Table::default();
        for name in names {
            let [before, after] = [self, other].map(|content| content.tables.get(name));
            let (a, b) = (before.unwrap_or(&nothing), after.unwrap_or(&nothing));
            let columns = |content: &Self, table: &Table| match content.stables.get(&table.stable) {
                Some(stable) => stable.columns.clone(),
                None => table.columns.clone(),
            };
            let both = before.is_some() && after.is_some();
            if both && (a.stable != b.stable || columns(self, a) != columns(other, b)) {
                continue;
            }
            let [a, b] = [a, b].map(|table| table.rows.iter().collect::<BTreeSet<_>>());
            let keys: BTreeSet<i64> = a
                .symmetric_difference(&b)
                .filter_map(|row| match row.first() {
                    Some(Cell::Time(key)) => Some(*key),
                    _ => None,
                })
                .collect();
            if !both || !keys.is_empty() {
                changed.insert(name.clone(), keys);
            }
        }
        changed
    }

    /// All of it line by line, in words that do not depend on the version of the server: to be compared with what a server
    /// of another version holds.
    pub fn lines(&self) -> Vec<String> {
        let options = self.options.replace(" S3_", " SS_");
        let mut lines = vec![format!("database: {options}")];
        let columns = |lines: &mut Vec<String>, place: &str, columns: &[Column]| {
            let columns = columns.iter();
            let columns = columns.map(|column| {
                let line = format!("{place}: {} {:?}", column.name, column.properties);
                line.replace("PRIMARY KEY", "COMPOSITE KEY")
            });
            lines.extend(columns);
        };
        for (name, stable) in &self.stables {
            let place = format!("super table {name}");
            lines.push(format!("{place}: {}", of_any_version(&stable.create)));
            columns(&mut lines, &place, &stable.columns);
            columns(&mut lines, &place, &stable.tags);
        }
        for (name, table) in &self.tables {
            let place = format!("table {name}");
            lines.push(format!(
                "{place}: of {} {:?}",
                table.stable, table.properties
            ));
            lines.push(format!("{place}: {}", of_any_version(&table.create)));
            columns(&mut lines, &place, &table.columns);
            lines.push(format!("{place}: tags {:?}", table.tags));
            let rows = table.rows.iter();
            lines.extend(rows.map(|row| format!("{place}: {row:?}")));
        }
        lines
    }

    /// Says where the other is not the same, the first `limit` places. Nothing if it is.
    pub fn differences(&self, other: &Self, limit: usize) -> Vec<String> {
        let mut found = Differences {
            limit,
            lines: Vec::new(),
        };
        found.words("database options", &self.options, &other.options);
        let stables = found.keys("super table", &self.stables, &other.stables);
        for (name, a, b) in stables {
            let place = format!("super table {name}");
            found.words(&place, &a.create, &b.create);
            found.value(&format!("{place}, columns"), &a.columns, &b.columns);
            found.value(&format!("{place}, tags"), &a.tags, &b.tags);
        }
        for (name, a, b) in found.keys("table", &self.tables, &other.tables) {
            let place = format!("table {name}");
            found.value(&format!("{place}, super table"), &a.stable, &b.stable);
            let properties = format!("{place}, type, ttl and comment");
            found.value(&properties, &a.properties, &b.properties);
            found.words(&place, &a.create, &b.create);
            found.value(&format!("{place}, columns"), &a.columns, &b.columns);
            let tags = [&a.tags, &b.tags].map(|tags| vec![tags.clone()]);
            found.rows(&format!("{place}, tags"), &tags[0], &tags[1]);
            found.rows(&place, &a.rows, &b.rows);
        }
        found.lines
    }
}

/// A CREATE TABLE without the codings of its columns, which only some servers show there.
fn of_any_version(create: &str) -> String {
    let mut parts = create.split(" ENCODE '");
    let mut plain = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        // Behind it are the values of ENCODE, COMPRESS and LEVEL, each in quotes.
        plain.push_str(part.splitn(6, '\'').last().unwrap_or_default());
    }
    plain.replace("PRIMARY KEY", "COMPOSITE KEY")
}

fn child<'a>(tables: &'a mut BTreeMap<String, Table>, row: &[Cell]) -> &'a mut Table {
    tables.entry(row[0].text()).or_default()
}

fn show_create(c: &Connection, what: &str, path: &str) -> Result<String, SqlError> {
    let mut rows = c.query(&format!("show create {what} {path}"))?;
    Ok(rows.pop().and_then(|mut row| row.pop()).unwrap_or_default())
}

/// Columns and tags.
fn describe(c: &Connection, path: &str) -> Result<(Vec<Column>, Vec<Column>), SqlError> {
    let rows = c.query(&format!("describe {path}"))?;
    let columns = rows.into_iter().map(|mut row| Column {
        properties: row.split_off(1),
        name: row.remove(0),
    });
    Ok(columns.partition(|column| !column.properties.iter().any(|text| text == "TAG")))
}

fn list(columns: &[Column]) -> String {
    let names: Vec<String> = columns.iter().map(|column| quoted(&column.name)).collect();
    names.join(", ")
}

struct Differences {
    limit: usize,
    lines: Vec<String>,
}

impl Differences {
    fn note(&mut self, line: impl FnOnce() -> String) {
        if self.lines.len() < self.limit {
            self.lines.push(line());
        }
    }

    fn value<T: PartialEq + Debug>(&mut self, place: &str, a: &T, b: &T) {
        if a != b {
            self.note(|| format!("{place}: {a:?}, not {b:?}"));
        }
    }

    /// Long texts, of which only the words that differ are shown.
    fn words(&mut self, place: &str, a: &str, b: &str) {
        if a == b {
            return;
        }
        let [a, b] = [a, b].map(|text| text.split(' ').collect::<Vec<_>>());
        let same = |(x, y): &(&&str, &&str)| x == y;
        let head = a.iter().zip(&b).take_while(same).count();
        let rest = a[head..].iter().rev().zip(b[head..].iter().rev());
        let tail = rest.take_while(same).count();
        let [a, b] = [a, b].map(|text| text[head.saturating_sub(1)..text.len() - tail].join(" "));
        self.note(|| format!("{place}: … {a} …, not … {b} …"));
    }

    /// Notes what only one side has and returns what both have.
    fn keys<'a, T>(
        &mut self,
        what: &str,
        a: &'a BTreeMap<String, T>,
        b: &'a BTreeMap<String, T>,
    ) -> Vec<(&'a String, &'a T, &'a T)> {
        for name in a.keys().filter(|name| !b.contains_key(*name)) {
            self.note(|| format!("{what} {name} is missing"));
        }
        for name in b.keys().filter(|name| !a.contains_key(*name)) {
            self.note(|| format!("{what} {name} should not be there"));
        }
        let both = a
            .iter()
            .filter_map(|(name, x)| Some((name, x, b.get(name)?)));
        both.collect()
    }

    /// Rows sorted by all they hold: what is on one side only is missing, too many, or differs.
    fn rows(&mut self, place: &str, a: &[Vec<Cell>], b: &[Vec<Cell>]) {
        if a.len() != b.len() {
            self.note(|| format!("{place}: {} rows, not {}", a.len(), b.len()));
        }
        let (mut a, mut b) = (a.iter().peekable(), b.iter().peekable());
        while self.lines.len() < self.limit {
            match (a.peek(), b.peek()) {
                (None, None) => break,
                (Some(x), Some(y)) if x == y => {
                    a.next();
                    b.next();
                }
                (Some(x), Some(y)) if x.first() == y.first() && x.len() == y.len() => {
                    let odd = x
                        .iter()
                        .zip(y.iter())
                        .enumerate()
                        .filter(|(_, (x, y))| x != y);
                    let cells: Vec<String> = odd
                        .map(|(n, (x, y))| format!("cell {n} is {x}, not {y}"))
                        .collect();
                    let key = x.first().map(ToString::to_string).unwrap_or_default();
                    self.note(|| format!("{place}, row {key}: {}", cells.join("; ")));
                    a.next();
                    b.next();
                }
                (Some(x), y) if y.is_none_or(|y| x < y) => {
                    self.note(|| format!("{place}: row ({}) is missing", cells(x)));
                    a.next();
                }
                (_, Some(y)) => {
                    self.note(|| format!("{place}: row ({}) should not be there", cells(y)));
                    b.next();
                }
                (Some(_), None) => break,
            }
        }
    }
}

fn cells(row: &[Cell]) -> String {
    let cells: Vec<String> = row.iter().map(ToString::to_string).collect();
    cells.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codings_are_left_out_of_a_create() {
        let shown = "CREATE TABLE `t` (`ts` TIMESTAMP ENCODE 'delta-i' COMPRESS 'lz4' LEVEL 'medium', `k` INT ENCODE 'a' \
                     COMPRESS 'b' LEVEL 'c' PRIMARY KEY) COMMENT 'x' TTL 1";
        let plain = "CREATE TABLE `t` (`ts` TIMESTAMP, `k` INT COMPOSITE KEY) COMMENT 'x' TTL 1";
        assert_eq!(of_any_version(shown), plain);
        assert_eq!(of_any_version(plain), plain);
    }
}
