//! Being told that a server's files changed.
//!
//! inotify (or what the system has in its place) wakes a follower at once. It is only a hint: a network file
//! system has none, watches run out, a directory is made anew. So whoever waits looks by itself as well, every
//! poll interval.

use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};
use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel},
    time::Duration,
};

/// Watches directories.
pub(crate) struct Watch {
    watcher: Option<RecommendedWatcher>,
    watched: BTreeSet<PathBuf>,
    wake: SyncSender<()>,
    woken: Receiver<()>,
}

/// Ends the wait of a [`Watch`].
#[derive(Clone)]
pub(crate) struct Waker(SyncSender<()>);

impl Waker {
    pub(crate) fn wake(&self) {
        // A full channel means that it is about to wake anyway.
        let _ = self.0.try_send(());
    }
}

impl Watch {
    pub(crate) fn new() -> Self {
        let (wake, woken) = sync_channel(1);
        Self {
            watcher: None,
            watched: BTreeSet::new(),
            wake,
            woken,
        }
    }

    pub(crate) fn waker(&self) -> Waker {
        Waker(self.wake.clone())
    }

    /// Watches exactly these directories; false if not all of them can be: then only the poll interval counts.
    pub(crate) fn watch(&mut self, wanted: &BTreeSet<PathBuf>) -> bool {
        if *wanted == self.watched && self.watcher.is_some() {
            return true;
        }
        let waker = self.waker();
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            // To read a file is an event as well, and it is us who read.
            let is_change = |event: notify::Event| !matches!(event.kind, EventKind::Access(_));
            if event.map_or(true, is_change) {
                waker.wake();
            }
        });
        let mut all = watcher.is_ok();
        self.watcher = watcher.ok();
        if let Some(watcher) = &mut self.watcher {
            for dir in wanted {
                all &= watcher
                    .watch(Path::new(dir), RecursiveMode::NonRecursive)
                    .is_ok();
            }
        }
        if all {
            self.watched.clone_from(wanted);
        } else {
            self.watched.clear();
            self.watcher = None;
        }
        all
    }

    /// Waits for a change, a [`Waker`] or the end of `interval`.
    pub(crate) fn wait(&self, interval: Duration) {
        match self.woken.recv_timeout(interval) {
            Ok(()) | Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {}
        }
    }
}
