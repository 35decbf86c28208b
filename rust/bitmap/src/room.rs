//! How an engine keeps its memory limit: it moves to disk what was used least recently, and refuses marks when nothing
//! more can go there.

use crate::inner::Inner;
use crate::place::SHARDS;
use crate::row::Row;
use crate::run::{OnDisk, Run};
use std::sync::atomic::Ordering::Relaxed;

/// How often all shards are asked to give up states in one call, at most.
const STEPS: usize = 4;

impl Inner {
    /// Moves to disk what is above the comfortable part of the limit.
    pub(crate) fn make_room(&self) {
        if self.memory.current() > self.memory.comfortable() {
            self.evict(self.memory.comfortable());
            if self.memory.current() > self.memory.nearly_full() {
                self.relieve(self.memory.comfortable());
            }
        }
    }

    /// Gives back memory until at most `target` bytes are held: coldest runs first.
    pub(crate) fn relieve(&self, target: u64) {
        let target = target.min(self.memory.comfortable());
        self.evict(target);
        if self.memory.current() > target {
            for shard in 0..SHARDS {
                self.lock(shard).states.compact();
            }
        }
        if self.memory.current() > target && self.disk.is_some() {
            self.seal(None);
            if let Err(error) = self.persist() {
                *self.trouble.lock() = Some(error);
            }
            self.evict(target);
        }
        self.check_full();
    }

    pub(crate) fn check_full(&self) {
        let full = self.memory.current() > self.memory.nearly_full();
        self.full.store(full, Relaxed);
    }

    /// Moves to disk until `target` bytes are held: first the copies in memory of runs that are there already, then
    /// states, which every mark needs; of each the least recently used first.
    pub(crate) fn evict(&self, target: u64) {
        self.evict_runs(target);
        if self.disk.is_none() || self.memory.current() <= target {
            return;
        }
        // Gives back a little more than needed, so that the next mark does not have to do it again.
        let target = target - target / 32;
        // In small steps, so that every shard gives up its coldest states.
        for _ in 0..STEPS {
            let excess = self.memory.current().saturating_sub(target) as usize;
            if excess == 0 {
                return;
            }
            for shard in 0..SHARDS {
                let evicted = self.lock(shard).states.evict(excess / SHARDS + 1);
                if let Err(error) = evicted {
                    *self.trouble.lock() = Some(error);
                    return;
                }
            }
        }
    }

    fn evict_runs(&self, target: u64) {
        if self.memory.current() <= target {
            return;
        }
        let trees = self.trees.read();
        let mut runs: Vec<(u64, &dyn OnDisk)> = Vec::new();
        runs.extend(trees.records.runs().map(|run| evictable(&**run)));
        runs.extend(trees.by_time.runs().map(|run| evictable(&**run)));
        runs.extend(trees.by_wal.runs().map(|run| evictable(&**run)));
        runs.sort_unstable_by_key(|(used, _)| *used);
        for (_, run) in runs {
            if self.memory.current() <= target {
                break;
            }
            run.evict();
        }
    }
}

fn evictable<R: Row>(run: &Run<R>) -> (u64, &dyn OnDisk) {
    (run.last_used(), run)
}
