//! How much came per second, over the last ten seconds.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

/// Seconds that a rate is taken over, the running one among them.
const WINDOW: u64 = 10;
/// One slot a second; a few more than the window, so that a late writer does not meet a reader.
const SLOTS: u64 = 16;
/// A slot holds its second's number, as many bits of it as fit, above the amount of that second.
const AMOUNT_BITS: u32 = 40;
const AMOUNT: u64 = (1 << AMOUNT_BITS) - 1;
const SECOND: u64 = u64::MAX >> AMOUNT_BITS;

/// Amounts by the second they came in. Seconds count from any fixed moment. Any number of threads may add.
#[derive(Debug, Default)]
pub struct Rate {
    slots: [AtomicU64; SLOTS as usize],
}

impl Rate {
    /// `amount` came in `second`. More than 2^40 in a second count as 2^40.
    pub fn add(&self, second: u64, amount: u64) {
        let slot = &self.slots[(second % SLOTS) as usize];
        let tag = (second & SECOND) << AMOUNT_BITS;
        let _ = slot.fetch_update(Relaxed, Relaxed, |old| {
            let before = if old & !AMOUNT == tag {
                old & AMOUNT
            } else {
                0
            };
            Some(tag | before.saturating_add(amount).min(AMOUNT))
        });
    }

    /// What came in the window that ends `now`.
    pub fn sum(&self, now: Duration) -> u64 {
        let last = now.as_secs();
        let first = last.saturating_sub(WINDOW - 1);
        (first..=last)
            .map(|second| {
                let slot = self.slots[(second % SLOTS) as usize].load(Relaxed);
                let is_of_second = slot >> AMOUNT_BITS == second & SECOND;
                if is_of_second { slot & AMOUNT } else { 0 }
            })
            .sum()
    }

    /// What came per second in the window that ends `now`, rounded.
    pub fn per_second(&self, now: Duration) -> u64 {
        let full_seconds = now.as_secs().min(WINDOW - 1);
        let length = full_seconds as f64 + f64::from(now.subsec_nanos()) / 1e9;
        (self.sum(now) as f64 / length.max(1.0)).round() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: f64) -> Duration {
        Duration::from_secs_f64(seconds)
    }

    #[test]
    fn a_steady_rate_is_seen_as_it_is() {
        let rate = Rate::default();
        for second in 100..120 {
            rate.add(second, 500);
        }
        assert_eq!(rate.per_second(at(119.999_999)), 500);
    }

    #[test]
    fn what_is_older_than_the_window_does_not_count() {
        let rate = Rate::default();
        rate.add(5, 1_000_000);
        assert_eq!(rate.sum(at(14.9)), 1_000_000);
        assert_eq!(rate.sum(at(15.0)), 0);
        assert_eq!(rate.sum(at(5.0 + SLOTS as f64)), 0, "the slot's next turn");
        assert_eq!(rate.per_second(at(2e9)), 0, "63 years later");
    }

    #[test]
    fn the_first_second_counts_as_a_whole_one() {
        let rate = Rate::default();
        rate.add(0, 10);
        assert_eq!(rate.per_second(at(0.001)), 10);
        assert_eq!(rate.per_second(at(2.0)), 5);
    }

    #[test]
    fn an_amount_too_large_is_cut_and_does_not_spill_into_the_second() {
        let rate = Rate::default();
        rate.add(3, u64::MAX);
        rate.add(3, u64::MAX);
        assert_eq!(rate.sum(at(3.0)), AMOUNT);
    }

    #[test]
    fn threads_lose_nothing() {
        let rate = Rate::default();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..10_000).for_each(|i| rate.add(i / 5_000, 1)));
            }
        });
        assert_eq!(rate.sum(at(1.0)), 40_000);
    }
}
