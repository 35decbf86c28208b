//! What SQL answered: `tests/data/expected/*.txt.gz`.

use crate::Result;
use flate2::read::GzDecoder;
use model::{Key, Uid, VgId};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    io::Read,
    path::Path,
};

/// The tables of a state and the keys of their rows.
#[derive(Debug, Default)]
pub struct Truth {
    /// Table by name: its id and vgroup.
    pub tables: BTreeMap<String, (Uid, VgId)>,
    /// Keys by table.
    pub keys: BTreeMap<Uid, BTreeSet<Key>>,
    /// Rows by table: the columns behind the key as SQL shows them, without quotes and blanks around them.
    pub cells: BTreeMap<Uid, BTreeMap<Key, Vec<String>>>,
}

impl Truth {
    /// Reads the answers of `base` or `incr`.
    pub fn load(state: &str) -> Result<Self> {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../data/expected");
        let mut text = String::new();
        GzDecoder::new(File::open(dir.join(format!("{state}.txt.gz")))?)
            .read_to_string(&mut text)?;
        Self::parse(&text)
    }

    /// Sections begin with `## name`. `tags` ends in lines `name | uid | vgroup |`; every other section from
    /// then on is a table's rows as CSV, the key first and quoted.
    fn parse(text: &str) -> Result<Self> {
        let mut truth = Self::default();
        let mut current = None;
        for line in text.lines() {
            if let Some(section) = line.strip_prefix("## ") {
                current = truth.tables.get(section).map(|(uid, _)| *uid);
                if let Some(uid) = current {
                    truth.keys.entry(uid).or_default();
                }
            } else if let Some(uid) = current {
                if let Some((key, rest)) = line
                    .strip_prefix('"')
                    .and_then(|rest| rest.split_once("\","))
                {
                    let key = Key(key.parse()?);
                    let cell = |cell: &str| cell.trim().trim_matches('"').to_owned();
                    let cells = rest.split(',').map(cell).collect();
                    truth.keys.entry(uid).or_default().insert(key);
                    truth.cells.entry(uid).or_default().insert(key, cells);
                }
            } else if let [name, uid, vgroup, ""] =
                line.split('|').map(str::trim).collect::<Vec<_>>()[..]
                && let (Ok(uid), Ok(vgroup)) = (uid.parse::<i64>(), vgroup.parse())
                && uid > i64::from(i32::MAX)
            {
                truth
                    .tables
                    .insert(name.to_owned(), (Uid(uid), VgId(vgroup)));
            }
        }
        Ok(truth)
    }

    /// Rows over all tables.
    pub fn rows(&self) -> usize {
        self.keys.values().map(BTreeSet::len).sum()
    }
}
