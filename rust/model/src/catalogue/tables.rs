use super::Table;
use std::{
    borrow::Borrow,
    cmp::Ordering,
    collections::{BTreeSet, HashSet},
    sync::Arc,
};

/// Tables by name. Of hundreds of thousands of tables few change between two links, so two lists can share those that are
/// the same in both.
#[derive(Debug, Clone, Default)]
pub struct Tables(BTreeSet<ByName>);

impl Tables {
    /// None.
    pub fn new() -> Self {
        Self::default()
    }

    /// The table of a name.
    pub fn get(&self, name: &str) -> Option<&Table> {
        self.shared(name).map(|table| &**table)
    }

    /// The table of a name, to share it.
    pub fn shared(&self, name: &str) -> Option<&Arc<Table>> {
        self.0.get(name).map(|table| &table.0)
    }

    /// Whether there is a table of this name.
    pub fn contains(&self, name: &str) -> bool {
        self.0.contains(name)
    }

    /// Adds a table in place of the one of its name, which is returned.
    pub fn insert(&mut self, table: impl Into<Arc<Table>>) -> Option<Arc<Table>> {
        self.0.replace(ByName(table.into())).map(|table| table.0)
    }

    /// Takes a table away.
    pub fn remove(&mut self, name: &str) -> Option<Arc<Table>> {
        self.0.take(name).map(|table| table.0)
    }

    /// Changes a table, but for its name. Other lists that share it keep it as it was.
    pub fn change(&mut self, name: &str, change: impl FnOnce(&mut Table)) {
        if let Some(mut table) = self.remove(name) {
            change(Arc::make_mut(&mut table));
            self.insert(table);
        }
    }

    /// Keeps those tables of which `keep` is true.
    pub fn retain(&mut self, mut keep: impl FnMut(&Table) -> bool) {
        self.0.retain(|table| keep(&table.0));
    }

    /// The tables in the order of their names.
    pub fn values(&self) -> impl Iterator<Item = &Table> {
        self.0.iter().map(|table| &*table.0)
    }

    /// The tables in the order of their names, each with the one that has this name in another list.
    pub fn beside<'t>(
        &'t self,
        other: Option<&'t Self>,
    ) -> impl Iterator<Item = (&'t Arc<Table>, Option<&'t Arc<Table>>)> {
        let mut others = other.into_iter().flat_map(|other| &other.0).peekable();
        self.0.iter().map(move |ByName(table)| {
            while others.next_if(|other| other.0.name < table.name).is_some() {}
            let other = others.peek().map(|other| &other.0);
            (table, other.filter(|other| other.name == table.name))
        })
    }

    /// Whether the two have the same tables because they share all of them.
    pub fn is_shared_with(&self, other: &Self) -> bool {
        let mut pairs = self.0.iter().zip(&other.0);
        self.len() == other.len() && pairs.all(|(a, b)| Arc::ptr_eq(&a.0, &b.0))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl PartialEq for Tables {
    fn eq(&self, other: &Self) -> bool {
        self.values().eq(other.values())
    }
}

impl Eq for Tables {}

impl FromIterator<Table> for Tables {
    fn from_iter<I: IntoIterator<Item = Table>>(tables: I) -> Self {
        tables.into_iter().map(Arc::new).collect()
    }
}

impl FromIterator<Arc<Table>> for Tables {
    fn from_iter<I: IntoIterator<Item = Arc<Table>>>(tables: I) -> Self {
        Self(tables.into_iter().map(ByName).collect())
    }
}

/// Names of super tables, which their children share.
#[derive(Debug, Default)]
pub struct SharedNames(HashSet<Arc<str>>);

impl SharedNames {
    /// A name, the same one for all who ask for it.
    pub fn get(&mut self, name: &str) -> Arc<str> {
        if let Some(known) = self.0.get(name) {
            return Arc::clone(known);
        }
        let name: Arc<str> = name.into();
        self.0.insert(Arc::clone(&name));
        name
    }
}

/// A table that is known by its name alone.
#[derive(Debug, Clone)]
struct ByName(Arc<Table>);

impl Borrow<str> for ByName {
    fn borrow(&self) -> &str {
        &self.0.name
    }
}

impl PartialEq for ByName {
    fn eq(&self, other: &Self) -> bool {
        self.0.name == other.0.name
    }
}

impl Eq for ByName {}

impl Ord for ByName {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.name.cmp(&other.0.name)
    }
}

impl PartialOrd for ByName {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Uid, VgId};

    fn table(name: &str, uid: i64) -> Table {
        Table {
            name: name.to_owned(),
            uid: Uid(uid),
            vgroup: VgId(2),
            stable: None,
            tags: None,
            schema: None,
            ttl: 0,
            comment: None,
        }
    }

    #[test]
    fn lists_that_share_a_table_can_change_it_each_for_itself() {
        let before: Tables = [table("b", 2), table("a", 1)].into_iter().collect();
        let mut after = before.clone();
        after.change("a", |table| table.ttl = 7);
        after.change("c", |table| table.ttl = 7);
        assert_eq!(before.get("a").unwrap().ttl, 0);
        assert_eq!(after.get("a").unwrap().ttl, 7);
        assert_ne!(before, after);
        let names: Vec<&str> = after.values().map(|table| &*table.name).collect();
        assert_eq!(names, ["a", "b"]);
        assert!(Arc::ptr_eq(
            before.shared("b").unwrap(),
            after.shared("b").unwrap()
        ));
        assert!(!after.is_shared_with(&before));
        assert!(before.is_shared_with(&before.clone()));
    }

    #[test]
    fn each_table_is_found_beside_the_one_of_its_name() {
        let all = |names: &[&str]| names.iter().map(|name| table(name, 1)).collect::<Tables>();
        let (now, before) = (all(&["b", "c", "e", "f"]), all(&["a", "c", "d", "f", "g"]));
        let pairs = now.beside(Some(&before));
        let pairs: Vec<(&str, Option<&str>)> = pairs
            .map(|(now, before)| (&*now.name, before.map(|before| &*before.name)))
            .collect();
        let expected = [("b", None), ("c", Some("c")), ("e", None), ("f", Some("f"))];
        assert_eq!(pairs, expected);
        assert!(now.beside(None).all(|(_, before)| before.is_none()));
    }

    #[test]
    fn a_table_takes_the_place_of_the_one_of_its_name() {
        let mut tables: Tables = [table("a", 1)].into_iter().collect();
        let replaced = tables.insert(table("a", 2)).unwrap();
        assert_eq!((replaced.uid, tables.len()), (Uid(1), 1));
        assert!(!tables.contains("b"));
        tables.retain(|table| table.uid == Uid(1));
        assert!(tables.is_empty());
    }
}
