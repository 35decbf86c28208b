//! What the engine holds in memory, counted as it is taken and given back.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Bytes in a megabyte of the configuration.
pub(crate) const MB: u64 = 1 << 20;

/// The engine's memory account. Every large allocation holds a [`Charge`] on it.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    limit: AtomicU64,
    current: AtomicU64,
    peak: AtomicU64,
    allocated: AtomicU64,
    freed: AtomicU64,
    allocations: AtomicU64,
    frees: AtomicU64,
}

/// The engine's memory use, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct MemoryUse {
    /// Held now.
    pub current: u64,
    /// The most that was ever held.
    pub peak: u64,
    /// The limit.
    pub limit: u64,
    /// Everything that was ever taken.
    pub allocated: u64,
    /// Everything that was given back.
    pub freed: u64,
    /// How often memory was taken.
    pub allocations: u64,
    /// How often memory was given back.
    pub frees: u64,
}

impl MemoryUse {
    /// Use in percent of the limit.
    pub fn percent(&self) -> f64 {
        self.current as f64 * 100.0 / self.limit.max(1) as f64
    }

    /// Is the use above the warning threshold of 80 %?
    pub fn is_warning(&self) -> bool {
        self.percent() > 80.0
    }
}

impl Memory {
    pub(crate) fn new(limit: u64) -> Arc<Self> {
        Arc::new(Self {
            limit: AtomicU64::new(limit),
            ..Self::default()
        })
    }

    pub(crate) fn limit(&self) -> u64 {
        self.limit.load(Relaxed)
    }

    pub(crate) fn set_limit(&self, bytes: u64) {
        self.limit.store(bytes, Relaxed);
    }

    pub(crate) fn current(&self) -> u64 {
        self.current.load(Relaxed)
    }

    /// Above this the coldest runs go to disk. The room above it is for what threads take between two checks.
    pub(crate) fn comfortable(&self) -> u64 {
        self.limit() / 16 * 13
    }

    /// Above this marks are refused. The last sixteenth is for what threads take between two checks.
    pub(crate) fn nearly_full(&self) -> u64 {
        self.limit() / 16 * 15
    }

    pub(crate) fn usage(&self) -> MemoryUse {
        MemoryUse {
            current: self.current(),
            peak: self.peak.load(Relaxed),
            limit: self.limit(),
            allocated: self.allocated.load(Relaxed),
            freed: self.freed.load(Relaxed),
            allocations: self.allocations.load(Relaxed),
            frees: self.frees.load(Relaxed),
        }
    }

    fn take(&self, bytes: u64) {
        let now = self.current.fetch_add(bytes, Relaxed) + bytes;
        self.peak.fetch_max(now, Relaxed);
        self.allocated.fetch_add(bytes, Relaxed);
        self.allocations.fetch_add(1, Relaxed);
    }

    fn give_back(&self, bytes: u64) {
        self.current.fetch_sub(bytes, Relaxed);
        self.freed.fetch_add(bytes, Relaxed);
        self.frees.fetch_add(1, Relaxed);
    }
}

/// Bytes held on an account until dropped.
#[derive(Debug)]
pub(crate) struct Charge {
    memory: Arc<Memory>,
    bytes: u64,
}

impl Charge {
    pub(crate) fn new(memory: &Arc<Memory>, bytes: usize) -> Self {
        let bytes = bytes as u64;
        memory.take(bytes);
        Self {
            memory: Arc::clone(memory),
            bytes,
        }
    }

    /// The same charge with another size.
    pub(crate) fn resize(&mut self, bytes: usize) {
        let bytes = bytes as u64;
        if bytes > self.bytes {
            self.memory.take(bytes - self.bytes);
        } else if bytes < self.bytes {
            self.memory.give_back(self.bytes - bytes);
        }
        self.bytes = bytes;
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.memory.give_back(self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_charge_is_held_until_it_is_dropped() {
        let memory = Memory::new(100);
        let mut charge = Charge::new(&memory, 60);
        charge.resize(90);
        charge.resize(70);
        assert_eq!((memory.current(), memory.usage().peak), (70, 90));
        assert!(!memory.usage().is_warning());
        drop(charge);
        let usage = memory.usage();
        assert_eq!((usage.current, usage.allocated, usage.freed), (0, 90, 90));
    }
}
