//! Blocks that a link changes → marks in an engine, as if a follower had told it of them.

use bitmap::{BlockId, BlockState, Engine, EngineError, Mark, MarkedAt, WindowNumber};
use model::{Version, VgId};
use plan::{Ordinals, window::WindowWidth};
use repository::{
    bitmaps::Bitmaps,
    link::{Link, LinkError},
};
use std::collections::BTreeMap;

/// Why an engine has not, or not all of, what a link changes.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The link can't be used.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// It says nothing of blocks.
    #[error(
        "{place} has no bitmaps of database {database}: only links with rows as Parquet have them (--format parquet)"
    )]
    NoBitmaps {
        /// The link.
        place: String,
        /// The database.
        database: String,
    },
    /// Its blocks are not those of the host.
    #[error(
        "{place} has windows of {found} ticks, the host of {wanted}: blocks of the one are not blocks of the other"
    )]
    Windows {
        /// The link.
        place: String,
        /// Its windows.
        found: i64,
        /// The host's.
        wanted: i64,
    },
    /// The engine did not take a mark. Loading may be repeated.
    #[error(transparent)]
    Engine(#[from] EngineError),
}

/// How much was marked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Loaded {
    /// Blocks.
    pub blocks: u64,
    /// Ranges that count as a whole.
    pub ranges: u64,
}

/// Marks what a link changes in a database. Tables without a number get one, as a follower would give it; whoever keeps the numbers
/// has to save them before the engine is used. The time is that at which the link was finished.
///
/// # Errors
/// See [`LoadError`]. Some blocks may be marked then.
pub fn load(
    link: &Link,
    database: &str,
    window: WindowWidth,
    numbers: &mut Ordinals,
    engine: &Engine,
) -> Result<Loaded, LoadError> {
    let of_database = link.database(database);
    let bitmaps = of_database.map(|database| link.bitmaps(database));
    let (Some(of_database), Some(bitmaps)) = (of_database, bitmaps.transpose()?.flatten()) else {
        return Err(LoadError::NoBitmaps {
            place: link.place(),
            database: database.to_owned(),
        });
    };
    if bitmaps.window != window {
        return Err(LoadError::Windows {
            place: link.place(),
            found: bitmaps.window.ticks(),
            wanted: window.ticks(),
        });
    }
    let vgroups = of_database.vgroups.iter();
    let newest = vgroups.map(|vgroup| (vgroup.vgroup, vgroup.to)).collect();
    let finished: Result<jiff::Timestamp, _> = link.manifest.finished.parse();
    // Nanoseconds of these centuries fit.
    let time = finished.map_or(0, |time| time.as_nanosecond() as i64);
    Ok(mark(&bitmaps, &newest, time, numbers, engine)?)
}

/// Marks what bitmaps say, at a time in nanoseconds. `newest` is up to which version each vgroup is in the link.
///
/// # Errors
/// The engine did not take a mark.
pub fn mark(
    bitmaps: &Bitmaps,
    newest: &BTreeMap<VgId, Version>,
    time: i64,
    numbers: &mut Ordinals,
    engine: &Engine,
) -> Result<Loaded, EngineError> {
    let mut loaded = Loaded::default();
    let at = |version: Version| MarkedAt::new(version.0.max(0) as u64, time);
    for (uid, table) in &bitmaps.tables {
        let number = numbers.of(*uid);
        for (block, state) in table.numbered(number) {
            let marked = at(state.version);
            match state.state {
                BlockState::New => match engine.mark(block, Mark::New, marked) {
                    Err(EngineError::InvalidTransition { .. }) => {
                        engine.mark_changed(block, marked)?;
                    }
                    result => drop(result?),
                },
                // What was emptied is copied, too: so it stays legal to write to it again.
                _ => engine.mark_changed(block, marked)?,
            }
            loaded.blocks += 1;
        }
        let block = |window| BlockId::new(number, window);
        for range in &table.ranges {
            let why = match range.emptied {
                true => "rows in very many windows were deleted",
                false => "rows in very many windows may have changed",
            };
            let (first, last) = (block(range.first), block(range.last));
            engine.mark_range(first, last, at(range.version), why)?;
            loaded.ranges += 1;
        }
        if table.state == BlockState::Deleted {
            let newest = newest.get(&table.vgroup).copied();
            let marked = at(newest.unwrap_or(Version::BEGINNING));
            let (first, last) = (WindowNumber(0), WindowNumber(u32::MAX));
            engine.mark_range(block(first), block(last), marked, "a table was dropped")?;
            loaded.ranges += 1;
        }
    }
    Ok(loaded)
}

#[cfg(test)]
mod tests {
    use super::*;
    use bitmap::EngineConfig;
    use model::Uid;
    use repository::bitmaps::TableBlocks;
    use std::{path::Path, sync::Arc};
    use store::Directory;

    fn recorded(link: &str) -> Link {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/data");
        Link::open(Arc::new(Directory::new(path.join(link)))).unwrap()
    }

    #[test]
    fn an_engine_finds_the_blocks_of_a_link_by_time_and_version() {
        let engine = Engine::open(&EngineConfig::default()).unwrap();
        let link = recorded("chain_parquet/inc");
        let database = &link.manifest.databases[0];
        let window = WindowWidth::from_ticks(database.window).unwrap();
        let bitmaps = link.bitmaps(database).unwrap().unwrap();
        // A host that follows has numbers of its own.
        let mut numbers: Ordinals = [Uid(1), Uid(2)].into_iter().collect();
        let loaded = load(&link, "d2", window, &mut numbers, &engine).unwrap();
        assert_eq!((loaded.blocks, loaded.ranges), (3, 1));
        assert_eq!(numbers.uids().len(), 2 + bitmaps.tables.len());
        let vgroup = &database.vgroups[0];
        let (from, to) = (vgroup.from.0 as u64, vgroup.to.0 as u64);
        assert_eq!(engine.find_by_wal(from + 1..=to, 9).unwrap().len(), 3);
        assert!(engine.find_by_wal(0..=from, 9).unwrap().is_empty());
        let finished: jiff::Timestamp = link.manifest.finished.parse().unwrap();
        let time = finished.as_nanosecond() as i64;
        assert_eq!(engine.find_by_time(time..=time, 9).unwrap().len(), 3);
        assert_eq!(engine.damage().len(), 1);
    }

    #[test]
    fn what_is_no_part_of_the_host_s_blocks_is_refused() {
        let engine = Engine::open(&EngineConfig::default()).unwrap();
        let mut numbers = Ordinals::default();
        let window = |ticks| WindowWidth::from_ticks(ticks).unwrap();
        let mut says = |link: &str, database: &str, ticks| {
            let error = load(
                &recorded(link),
                database,
                window(ticks),
                &mut numbers,
                &engine,
            );
            error.unwrap_err().to_string()
        };
        let hour = 3_600_000;
        assert!(says("chain/inc", "d1", hour).contains("has no bitmaps of database d1"));
        assert!(
            says("chain_parquet/inc", "other", hour).contains("has no bitmaps of database other")
        );
        assert!(
            says("chain_parquet/inc", "d2", 7).contains("windows of 3600000 ticks, the host of 7")
        );
        assert!(numbers.uids().is_empty());
    }

    #[test]
    fn a_block_that_is_deleted_in_the_engine_becomes_dirty() {
        let engine = Engine::open(&EngineConfig::default()).unwrap();
        let mut numbers = Ordinals::default();
        let block = BlockId::new(numbers.of(Uid(5)), WindowNumber(7));
        engine
            .mark(block, Mark::Deleted, MarkedAt::new(1, 1))
            .unwrap();
        let mut bitmaps = Bitmaps::new(WindowWidth::from_ticks(1).unwrap());
        let mut table = TableBlocks::new(VgId(2), BlockState::New);
        table.rows_in(WindowNumber(7), Version(2));
        bitmaps.tables.insert(Uid(5), table);
        mark(&bitmaps, &BTreeMap::new(), 2, &mut numbers, &engine).unwrap();
        assert_eq!(engine.state(block).unwrap(), BlockState::Dirty);
        assert_eq!(engine.find_by_wal(2..=2, 9).unwrap(), [block]);
    }
}
