//! Which crate may use which. docs/architecture.md has a table of all crates with their floors and a table of what each
//! may never reach; this crate reads both and holds them against what `cargo metadata` says of the workspace.
//!
//! Crates below `tests/` stand outside the house: they may use any crate, and no crate of the house uses one of them
//! except in its own tests.

use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

/// The marks in docs/architecture.md that begin the table of crates and that of what a crate may never reach. Each
/// table ends at [`END`].
const CRATES: &str = "<!-- crates: tests/house reads this table -->";
const NEVER: &str = "<!-- never: tests/house reads this table -->";
const END: &str = "<!-- end -->";

/// What the document allows.
#[derive(Debug, Default)]
pub struct House {
    rooms: BTreeMap<String, Room>,
    never: Vec<(String, String)>,
}

#[derive(Debug)]
struct Room {
    floor: u32,
    uses: BTreeSet<String>,
}

impl House {
    /// Reads both tables.
    ///
    /// # Errors
    /// A table is missing, or a row of it can't be understood; the text names the row.
    pub fn parse(document: &str) -> Result<Self, String> {
        let mut house = Self::default();
        for cells in rows(document, CRATES)? {
            let [floor, name, uses, ..] = &cells[..] else {
                return Err(format!("a row of the crates is too short: {cells:?}"));
            };
            let floor = floor
                .parse()
                .map_err(|_| format!("{name}: {floor:?} is no floor"))?;
            let room = Room {
                floor,
                uses: names(uses).into_iter().collect(),
            };
            if house.rooms.insert(one(name)?, room).is_some() {
                return Err(format!("{name} has two rows"));
            }
        }
        for cells in rows(document, NEVER)? {
            let [name, targets, ..] = &cells[..] else {
                return Err(format!("a row of \"never\" is too short: {cells:?}"));
            };
            let name = one(name)?;
            let targets = names(targets).into_iter();
            house
                .never
                .extend(targets.map(|target| (name.clone(), target)));
        }
        Ok(house)
    }

    /// What the workspace does and the document does not allow, and what the document allows and the workspace does not
    /// do. Empty when both agree.
    #[must_use]
    pub fn problems(&self, workspace: &Workspace) -> Vec<String> {
        let mut problems = self.missing(workspace);
        for (name, package) in workspace.house() {
            let none = BTreeSet::new();
            let allowed = self.rooms.get(name).map_or(&none, |room| &room.uses);
            let used = workspace.used_by(package);
            for target in used.difference(allowed) {
                problems.push(format!(
                    "{name} uses {target}, which its row does not allow: does {target} belong there?"
                ));
            }
            for target in allowed.difference(&used) {
                problems.push(format!(
                    "{name} does not use {target}: take it out of its row"
                ));
            }
            for target in &used {
                problems.extend(self.not_downwards(name, target));
                problems.extend(workspace.is_outside(target).then(|| {
                    format!(
                        "{name} uses {target}, which only tests may use: make it a dev-dependency"
                    )
                }));
            }
        }
        for (name, target) in &self.never {
            problems.extend(workspace.way(name, target).map(|way| {
                format!(
                    "{name} must never reach {target}, and does: {}",
                    way.join(" → ")
                )
            }));
        }
        problems
    }

    /// Crates without a row, and rows without a crate.
    fn missing(&self, workspace: &Workspace) -> Vec<String> {
        let crates: BTreeSet<_> = workspace.house().map(|(name, _)| name).collect();
        let rooms: BTreeSet<_> = self.rooms.keys().collect();
        let no_row = crates
            .difference(&rooms)
            .map(|name| format!("{name} has no row: give it a floor"));
        let no_crate = rooms
            .difference(&crates)
            .map(|name| format!("{name} has a row and is no crate of the house"));
        let never = self.never.iter().filter(|(name, _)| !rooms.contains(name));
        let no_never = never.map(|(name, _)| format!("{name} is in \"never\" and has no row"));
        no_row.chain(no_crate).chain(no_never).collect()
    }

    fn not_downwards(&self, name: &str, target: &str) -> Option<String> {
        let (from, to) = (self.rooms.get(name)?.floor, self.rooms.get(target)?.floor);
        (from <= to).then(|| {
            format!(
                "{name} on floor {from} uses {target} on floor {to}: arrows go to lower floors only"
            )
        })
    }
}

/// The packages of the workspace.
#[derive(Debug)]
pub struct Workspace {
    packages: BTreeMap<String, Package>,
}

#[derive(Debug)]
struct Package {
    outside: bool,
    /// What it depends on when it is built, not when it is tested: crates of the workspace and others.
    depends: BTreeSet<String>,
}

impl Workspace {
    /// Reads what `cargo metadata --format-version 1 --no-deps` wrote.
    ///
    /// # Errors
    /// It is something else; the text says what is missing.
    pub fn parse(metadata: &[u8]) -> Result<Self, String> {
        let metadata: Value = serde_json::from_slice(metadata).map_err(|e| e.to_string())?;
        let root = Path::new(text(&metadata, "workspace_root")?);
        let mut packages = BTreeMap::new();
        for package in list(&metadata, "packages")? {
            let manifest = Path::new(text(package, "manifest_path")?);
            let mut depends = BTreeSet::new();
            for dependency in list(package, "dependencies")? {
                if dependency["kind"].as_str() != Some("dev") {
                    depends.insert(text(dependency, "name")?.to_owned());
                }
            }
            packages.insert(
                text(package, "name")?.to_owned(),
                Package {
                    outside: manifest.starts_with(root.join("tests")),
                    depends,
                },
            );
        }
        Ok(Self { packages })
    }

    fn house(&self) -> impl Iterator<Item = (&String, &Package)> {
        self.packages.iter().filter(|(_, package)| !package.outside)
    }

    fn is_outside(&self, name: &str) -> bool {
        self.packages
            .get(name)
            .is_some_and(|package| package.outside)
    }

    /// The crates of this workspace that a package uses.
    fn used_by(&self, package: &Package) -> BTreeSet<String> {
        let own = |name: &&String| self.packages.contains_key(*name);
        package.depends.iter().filter(own).cloned().collect()
    }

    /// How `from` reaches `to`, over as many crates as it takes; the last step may leave the workspace.
    fn way(&self, from: &str, to: &str) -> Option<Vec<String>> {
        let mut ways = vec![vec![from.to_owned()]];
        let mut seen = BTreeSet::new();
        while let Some(way) = ways.pop() {
            let last = way.last()?;
            if last == to && way.len() > 1 {
                return Some(way);
            }
            let Some(package) = self.packages.get(last) else {
                continue;
            };
            for next in &package.depends {
                if seen.insert(next.clone()) {
                    ways.push(way.iter().chain([next]).cloned().collect());
                }
            }
        }
        None
    }
}

/// The cells of a table's rows, without its head.
fn rows(document: &str, mark: &str) -> Result<Vec<Vec<String>>, String> {
    let (_, rest) = document
        .split_once(mark)
        .ok_or_else(|| format!("there is no {mark}"))?;
    let (table, _) = rest
        .split_once(END)
        .ok_or_else(|| format!("there is no {END} after {mark}"))?;
    let lines = table.lines().filter(|line| line.starts_with('|')).skip(2);
    let cells = |line: &str| line.trim_matches('|').split('|').map(trimmed).collect();
    let rows: Vec<Vec<String>> = lines.map(cells).collect();
    match rows.is_empty() {
        true => Err(format!("there is no table after {mark}")),
        false => Ok(rows),
    }
}

fn trimmed(cell: &str) -> String {
    cell.trim().to_owned()
}

/// The names in a cell: each stands between backquotes.
fn names(cell: &str) -> Vec<String> {
    let quoted = cell.split('`').skip(1).step_by(2);
    quoted.map(str::to_owned).collect()
}

/// The first name in a cell.
fn one(cell: &str) -> Result<String, String> {
    let first = names(cell).into_iter().next();
    first.ok_or_else(|| format!("no crate is named in {cell:?}"))
}

fn text<'v>(value: &'v Value, key: &str) -> Result<&'v str, String> {
    let text = value[key].as_str();
    text.ok_or_else(|| format!("cargo metadata has no text {key:?}"))
}

fn list<'v>(value: &'v Value, key: &str) -> Result<&'v [Value], String> {
    let list = value[key].as_array();
    list.map(Vec::as_slice)
        .ok_or_else(|| format!("cargo metadata has no list {key:?}"))
}
