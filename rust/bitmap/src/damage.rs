//! Ranges of blocks that count as DIRTY as a whole: their records could not be read back, or whoever marks blocks
//! does not know which of them changed.

use crate::damaged_range::{DamageList, DamageToken, DamagedRange};
use crate::place::SHARDS;
use crate::{BlockId, BlockState, Engine, EngineError, Mark, MarkedAt};

impl Engine {
    /// The ranges whose records were damaged on disk, or that were marked as a whole. All their blocks count as DIRTY,
    /// but a range query can only name those it knows: back up each range as a whole, then acknowledge the damage.
    ///
    /// This only looks; who backs the ranges up takes them from [`Engine::list_damage`].
    pub fn damage(&self) -> Vec<DamagedRange> {
        self.inner.damaged.read().to_vec()
    }

    /// At most `limit` of these ranges, with a token for [`Engine::acknowledge_damage`]. No range is changed: any number of
    /// callers may ask at the same time.
    pub fn list_damage(&self, limit: usize) -> DamageList {
        self.inner.damaged.write().list(limit)
    }

    /// Forgets the ranges of the list that `token` came with: they were backed up whole. A range stays that was not in that
    /// list, that came since, or into which something came since.
    ///
    /// # Errors
    /// `UnknownToken`: nothing was changed. `Io`: the damage is forgotten in memory, and reported again after a restart.
    pub fn acknowledge_damage(&self, token: DamageToken) -> Result<(), EngineError> {
        if !self.inner.damaged.write().acknowledge(token) {
            return Err(EngineError::UnknownToken(token.0));
        }
        self.inner.persist()
    }

    /// Any block from `first` to `last` may have changed, and which is not known: all of them count as DIRTY until
    /// [`Engine::acknowledge_damage`]. Those that were marked before become DIRTY at `marked`.
    ///
    /// # Errors
    /// `MemoryFull`: the range counts as dirty all the same, also after a restart. `Io`, `Damaged`: after a restart it might
    /// not; call again.
    pub fn mark_range(
        &self,
        first: BlockId,
        last: BlockId,
        marked: MarkedAt,
        why: &str,
    ) -> Result<(), EngineError> {
        let (first, last) = (first.min(last), first.max(last));
        let range = DamagedRange::new(first, last, String::new(), 0, why);
        self.inner.add_damage(range);
        let known = self.mark_known_in(first, last, marked);
        // The marks, too: after a crash range queries find these blocks.
        self.inner.seal(None);
        self.inner.persist()?;
        known
    }

    fn mark_known_in(
        &self,
        first: BlockId,
        last: BlockId,
        marked: MarkedAt,
    ) -> Result<(), EngineError> {
        for shard in 0..SHARDS {
            let known = self.inner.lock(shard).states.known_in(first, last)?;
            for block in known {
                self.mark_changed(block, marked)?;
            }
        }
        Ok(())
    }

    /// Something happened to `block` that leaves it to be copied, whatever its state: NEW stays NEW, any other
    /// becomes DIRTY. A deletion that was not confirmed is covered by the copy.
    ///
    /// # Errors
    /// `MemoryFull`, `Io` and `Damaged`, as [`Engine::mark`]; nothing was changed.
    pub fn mark_changed(&self, block: BlockId, marked: MarkedAt) -> Result<(), EngineError> {
        // At no moment it is CLEAN: what was deleted would be forgotten if the mark were refused, or lost in a crash.
        let rule = |from: BlockState| Ok(from.after(Mark::Dirty).unwrap_or(BlockState::Dirty));
        self.inner.apply(block, rule, marked).map(drop)
    }
}

impl crate::inner::Inner {
    pub(crate) fn add_damage(&self, range: DamagedRange) {
        self.damaged.write().add(range);
    }
}

#[cfg(test)]
mod tests {
    use crate::{BlockId, BlockState, Engine, EngineConfig, Mark, MarkedAt};

    #[test]
    fn a_range_marked_as_a_whole_is_dirty_and_stays_so_over_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let config = EngineConfig {
            max_memory_mb: 16,
            persistence_path: Some(dir.path().into()),
        };
        let engine = Engine::open(&config).unwrap();
        let at = |wal| MarkedAt::new(wal, wal as i64);
        for (block, mark) in [
            (1, Mark::Dirty),
            (2, Mark::Deleted),
            (3, Mark::New),
            (9, Mark::Deleted),
        ] {
            engine.mark(BlockId(block), mark, at(1)).unwrap();
        }
        engine.clear(BlockId(1)).unwrap();
        engine
            .mark_range(BlockId(0), BlockId(5), at(7), "a test")
            .unwrap();
        engine
            .mark_range(BlockId(2), BlockId(3), at(7), "a part of it")
            .unwrap();
        let check = |engine: &Engine| {
            assert_eq!(engine.damage().len(), 1);
            let states: Vec<_> = (1..=4)
                .map(|id| engine.state(BlockId(id)).unwrap())
                .collect();
            let dirty = BlockState::Dirty;
            assert_eq!(states, [dirty, dirty, BlockState::New, dirty]);
            assert_eq!(engine.state(BlockId(9)).unwrap(), BlockState::Deleted);
            assert_eq!(engine.find_by_wal(7..=7, 9).unwrap().len(), 3);
        };
        check(&engine);
        engine.sync().unwrap();
        drop(engine);
        let engine = Engine::open(&config).unwrap();
        check(&engine);
        let list = engine.list_damage(usize::MAX);
        engine.acknowledge_damage(list.token).unwrap();
        assert!(engine.damage().is_empty());
    }

    #[test]
    fn only_the_ranges_of_a_list_as_they_were_then_are_acknowledged() {
        let engine = Engine::open(&EngineConfig::default()).unwrap();
        let mark = |first, last| {
            let (first, last) = (BlockId(first), BlockId(last));
            engine.mark_range(first, last, MarkedAt::default(), "a test")
        };
        let left = || -> Vec<_> { engine.damage().iter().map(|r| r.first.0).collect() };
        for first in [0, 100, 200] {
            mark(first, first + 9).unwrap();
        }
        let list = engine.list_damage(2);
        assert_eq!((list.ranges.len(), list.count), (2, 3));
        // While the two are backed up, one changes again, and another one comes. Somebody else looks, and lists all.
        mark(105, 106).unwrap();
        mark(300, 309).unwrap();
        assert_eq!(left(), [0, 100, 200, 300]);
        let other = engine.list_damage(usize::MAX);
        engine.acknowledge_damage(list.token).unwrap();
        assert_eq!(left(), [100, 200, 300]);
        // One that was widened since the list is not the one that was listed.
        mark(290, 320).unwrap();
        engine.acknowledge_damage(other.token).unwrap();
        assert_eq!(left(), [290]);
        engine.acknowledge_damage(other.token).unwrap();
        assert_eq!(left(), [290], "twice is as once");
        let nothing = engine.list_damage(0);
        assert_eq!((nothing.ranges.len(), nothing.count), (0, 1));
        engine.acknowledge_damage(nothing.token).unwrap();
        assert_eq!(left(), [290]);
        let unknown = engine.acknowledge_damage(crate::DamageToken(u64::MAX));
        assert!(matches!(unknown, Err(crate::EngineError::UnknownToken(_))));
        assert_eq!(left(), [290]);
    }

    #[test]
    fn a_token_that_no_list_of_this_engine_came_with_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let config = EngineConfig {
            max_memory_mb: 16,
            persistence_path: Some(dir.path().into()),
        };
        let engine = Engine::open(&config).unwrap();
        let at = MarkedAt::default();
        for first in [0, 100, 200] {
            engine
                .mark_range(BlockId(first), BlockId(first + 9), at, "a test")
                .unwrap();
        }
        let refused = |engine: &Engine, token| {
            let answer = engine.acknowledge_damage(token);
            assert!(matches!(answer, Err(crate::EngineError::UnknownToken(_))));
            assert_eq!(engine.damage().len(), 3);
        };
        let first = engine.list_damage(1).token;
        refused(&engine, crate::DamageToken(first.0.wrapping_add(1)));
        let all = engine.list_damage(usize::MAX).token;
        drop(engine);
        let engine = Engine::open(&config).unwrap();
        engine.list_damage(usize::MAX);
        refused(&engine, all);
    }

    #[test]
    fn ranges_found_when_an_engine_is_opened_are_acknowledged_by_their_list_alone() {
        let dir = tempfile::tempdir().unwrap();
        let config = EngineConfig {
            max_memory_mb: 16,
            persistence_path: Some(dir.path().into()),
        };
        let engine = Engine::open(&config).unwrap();
        for first in [0, 100, 200] {
            engine
                .mark_range(
                    BlockId(first),
                    BlockId(first + 9),
                    MarkedAt::default(),
                    "a test",
                )
                .unwrap();
        }
        drop(engine);
        let engine = Engine::open(&config).unwrap();
        let list = engine.list_damage(2);
        engine.acknowledge_damage(list.token).unwrap();
        drop(engine);
        let left = Engine::open(&config).unwrap().damage();
        assert_eq!(left.len(), 1);
        assert!(list.ranges.iter().all(|range| range.first != left[0].first));
    }

    #[test]
    fn ends_in_the_wrong_order_are_a_range_all_the_same() {
        let engine = Engine::open(&EngineConfig::default()).unwrap();
        let at = MarkedAt::new(1, 1);
        engine
            .mark_range(BlockId(7), BlockId(4), at, "a test")
            .unwrap();
        for block in 4..=7 {
            assert_eq!(engine.state(BlockId(block)).unwrap(), BlockState::Dirty);
        }
    }

    #[test]
    fn very_many_ranges_become_one() {
        let engine = Engine::open(&EngineConfig::default()).unwrap();
        for i in 0..2_000 {
            let first = BlockId(i * 10);
            engine
                .mark_range(first, first, MarkedAt::default(), "a test")
                .unwrap();
        }
        assert!(engine.damage().len() <= 1024);
        assert!((0..2_000).all(|i| engine.state(BlockId(i * 10)).unwrap() == BlockState::Dirty));
    }
}
