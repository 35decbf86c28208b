//! A bounded queue whose oldest item can be looked at, which a channel does not offer.

use parking_lot::{Condvar, Mutex, MutexGuard};
use std::{
    collections::{TryReserveError, VecDeque},
    time::{Duration, Instant},
};

/// The queue. Any number of threads may use it.
#[derive(Debug)]
pub struct Ring<T> {
    state: Mutex<State<T>>,
    not_empty: Condvar,
    not_full: Condvar,
    capacity: usize,
}

#[derive(Debug)]
struct State<T> {
    items: VecDeque<T>,
    closed: bool,
    stats: RingStats,
}

/// Numbers about a queue since it was made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RingStats {
    /// Items that were appended.
    pub enqueued: u64,
    /// Items that were taken.
    pub dequeued: u64,
    /// Items that were turned away for lack of room.
    pub overflows: u64,
}

/// Why a queue refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RingError {
    /// There is no room.
    Full,
    /// There is nothing in it.
    Empty,
    /// It was closed. Items that are in it can still be taken.
    Closed,
    /// The time is over.
    Timeout,
}

impl<T: Copy> Ring<T> {
    /// An empty queue.
    pub fn new(capacity: usize) -> Result<Self, TryReserveError> {
        let mut items = VecDeque::new();
        items.try_reserve_exact(capacity)?;
        Ok(Self {
            state: Mutex::new(State {
                items,
                closed: false,
                stats: RingStats::default(),
            }),
            not_empty: Condvar::new(),
            not_full: Condvar::new(),
            capacity,
        })
    }

    /// Appends an item.
    pub fn push(&self, item: T) -> Result<(), RingError> {
        let mut state = self.state.lock();
        if !state.closed && state.items.len() >= self.capacity {
            state.stats.overflows += 1;
            return Err(RingError::Full);
        }
        self.append(state, item)
    }

    /// Appends an item when there is room; without `patience` it waits without end.
    pub fn push_wait(&self, item: T, patience: Option<Duration>) -> Result<(), RingError> {
        let deadline = patience.map(|patience| Instant::now() + patience);
        let mut state = self.state.lock();
        while !state.closed && state.items.len() >= self.capacity {
            if wait(&self.not_full, &mut state, deadline) && state.items.len() >= self.capacity {
                state.stats.overflows += 1;
                return Err(RingError::Timeout);
            }
        }
        self.append(state, item)
    }

    fn append(&self, mut state: MutexGuard<'_, State<T>>, item: T) -> Result<(), RingError> {
        if state.closed {
            return Err(RingError::Closed);
        }
        state.items.push_back(item);
        state.stats.enqueued += 1;
        drop(state);
        self.not_empty.notify_one();
        Ok(())
    }

    /// Takes the oldest item.
    pub fn pop(&self) -> Result<T, RingError> {
        let state = self.state.lock();
        self.take(state, RingError::Empty)
    }

    /// Takes the oldest item when there is one; without `patience` it waits without end.
    pub fn pop_wait(&self, patience: Option<Duration>) -> Result<T, RingError> {
        let deadline = patience.map(|patience| Instant::now() + patience);
        let mut state = self.state.lock();
        while !state.closed && state.items.is_empty() {
            if wait(&self.not_empty, &mut state, deadline) {
                break;
            }
        }
        self.take(state, RingError::Timeout)
    }

    fn take(&self, mut state: MutexGuard<'_, State<T>>, none: RingError) -> Result<T, RingError> {
        let Some(item) = state.items.pop_front() else {
            return Err(if state.closed {
                RingError::Closed
            } else {
                none
            });
        };
        state.stats.dequeued += 1;
        drop(state);
        self.not_full.notify_one();
        Ok(item)
    }

    /// The oldest item, which stays.
    pub fn peek(&self) -> Result<T, RingError> {
        self.state
            .lock()
            .items
            .front()
            .copied()
            .ok_or(RingError::Empty)
    }

    /// Refuses new items from now on, and wakes the threads that wait.
    pub fn close(&self) {
        self.state.lock().closed = true;
        self.not_empty.notify_all();
        self.not_full.notify_all();
    }

    /// Takes all items.
    pub fn drain(&self) -> Vec<T> {
        let mut state = self.state.lock();
        let items: Vec<T> = state.items.drain(..).collect();
        state.stats.dequeued += items.len() as u64;
        drop(state);
        self.not_full.notify_all();
        items
    }

    /// How many items are in.
    pub fn len(&self) -> usize {
        self.state.lock().items.len()
    }

    /// Whether none is in.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many it holds at most.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// The queue's counters.
    pub fn stats(&self) -> RingStats {
        self.state.lock().stats
    }
}

/// Waits; true if the time is over.
fn wait<T>(signal: &Condvar, state: &mut MutexGuard<'_, T>, deadline: Option<Instant>) -> bool {
    match deadline {
        Some(deadline) => signal.wait_until(state, deadline).timed_out(),
        None => {
            signal.wait(state);
            false
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::{sync::Arc, thread};

    const SOON: Option<Duration> = Some(Duration::from_millis(5));

    #[test]
    fn items_come_out_in_order_and_every_limit_has_its_answer() {
        let ring = Ring::new(2).unwrap();
        assert_eq!(
            (ring.pop(), ring.peek()),
            (Err(RingError::Empty), Err(RingError::Empty))
        );
        assert_eq!(ring.pop_wait(SOON), Err(RingError::Timeout));
        assert_eq!((ring.push(1), ring.push(2)), (Ok(()), Ok(())));
        assert_eq!(ring.push(3), Err(RingError::Full));
        assert_eq!(ring.push_wait(3, SOON), Err(RingError::Timeout));
        assert_eq!((ring.peek(), ring.pop(), ring.len()), (Ok(1), Ok(1), 1));
        ring.close();
        assert_eq!(ring.push(4), Err(RingError::Closed));
        assert_eq!(ring.push_wait(4, None), Err(RingError::Closed));
        assert_eq!(
            (ring.pop_wait(None), ring.pop()),
            (Ok(2), Err(RingError::Closed))
        );
        let stats = RingStats {
            enqueued: 2,
            dequeued: 2,
            overflows: 2,
        };
        assert_eq!(ring.stats(), stats);
    }

    #[test]
    fn threads_that_wait_lose_nothing_and_a_close_lets_them_go() {
        let ring = Arc::new(Ring::new(3).unwrap());
        let taken: u64 = thread::scope(|scope| {
            let takers: Vec<_> = (0..3)
                .map(|_| {
                    scope.spawn(|| std::iter::from_fn(|| ring.pop_wait(None).ok()).sum::<u64>())
                })
                .collect();
            let givers: Vec<_> = (0..3)
                .map(|_| scope.spawn(|| (1..=1_000).for_each(|i| ring.push_wait(i, None).unwrap())))
                .collect();
            givers.into_iter().for_each(|giver| giver.join().unwrap());
            ring.close();
            takers.into_iter().map(|taker| taker.join().unwrap()).sum()
        });
        assert_eq!(taken, 3 * 500_500);
        assert_eq!(
            (ring.stats().enqueued, ring.stats().dequeued),
            (3_000, 3_000)
        );
    }

    #[test]
    fn draining_takes_all_and_makes_room() {
        let ring = Ring::new(1).unwrap();
        thread::scope(|scope| {
            ring.push(1).unwrap();
            let giver = scope.spawn(|| ring.push_wait(2, None));
            let mut all = Vec::new();
            while all.len() < 2 {
                all.extend(ring.drain());
            }
            assert_eq!((giver.join().unwrap(), all), (Ok(()), vec![1, 2]));
        });
    }
}
