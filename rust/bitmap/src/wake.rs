//! How the thread that merges learns that there is work, or that the engine is closed.

use parking_lot::{Condvar, Mutex};

/// Wakes the worker.
#[derive(Debug, Default)]
pub(crate) struct Wake {
    signal: Mutex<Signal>,
    changed: Condvar,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Signal {
    #[default]
    Idle,
    Work,
    Stop,
}

impl Wake {
    /// There may be work.
    pub(crate) fn notify(&self) {
        let mut signal = self.signal.lock();
        if *signal == Signal::Idle {
            *signal = Signal::Work;
            self.changed.notify_one();
        }
    }

    /// The engine is closed: there is no more work.
    pub(crate) fn stop(&self) {
        *self.signal.lock() = Signal::Stop;
        self.changed.notify_one();
    }

    /// Waits for work; `false` when it is time to stop.
    pub(crate) fn wait(&self) -> bool {
        let mut signal = self.signal.lock();
        while *signal == Signal::Idle {
            self.changed.wait(&mut signal);
        }
        let go_on = *signal == Signal::Work;
        if go_on {
            *signal = Signal::Idle;
        }
        go_on
    }

    pub(crate) fn is_stopped(&self) -> bool {
        *self.signal.lock() == Signal::Stop
    }
}
