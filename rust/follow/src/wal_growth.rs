//! How far a WAL directory reaches, and being told when it reaches further.

use crate::watch::{Waker, Watch};
use std::{
    cell::Cell,
    fs, io,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    ptr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread::{self, JoinHandle},
    time::Duration,
};
use tdfiles::wal::{HEADER_SIZE, Header, SegmentName};

/// What is complete in a log: its newest version and the bytes up to its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WalEnd {
    /// The newest segment.
    pub segment: PathBuf,
    /// The version of its last complete record; one less than its first where it holds none.
    pub version: i64,
    /// Where that record ends in it, in bytes (before the padding that encryption adds).
    pub offset: u64,
}

/// The end of the log in `wal`; `None` where there is no segment. The index leads there, and the record's own header
/// is checked, so this costs the same however long the log is.
pub fn end(wal: &Path) -> io::Result<Option<WalEnd>> {
    let Some((name, path)) = newest_segment(wal)? else {
        return Ok(None);
    };
    let log = fs::File::open(&path)?;
    let size = log.metadata()?.len();
    let index = match fs::File::open(path.with_extension("idx")) {
        Ok(index) => index,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Ok(Some(WalEnd::empty(path, name)));
        }
        Err(error) => return Err(error),
    };
    let entries = index.metadata()?.len() / INDEX_ENTRY;
    // The server writes the index entry before the record, so the newest ones may have none yet.
    for entry in (entries.saturating_sub(LOOK_BACK)..entries).rev() {
        let mut bytes = [0; INDEX_ENTRY as usize];
        index.read_exact_at(&mut bytes, entry * INDEX_ENTRY)?;
        let (version, offset) = bytes.split_at(8);
        let version = i64::from_le_bytes(version.try_into().unwrap_or_default());
        let offset = u64::from_le_bytes(offset.try_into().unwrap_or_default());
        let mut header = [0; HEADER_SIZE];
        if offset > size || log.read_exact_at(&mut header, offset).is_err() {
            continue;
        }
        let Ok(header) = Header::parse(&header, offset) else {
            continue;
        };
        let end = offset + HEADER_SIZE as u64 + u64::from(header.body_len);
        if header.version.0 == version && end <= size {
            return Ok(Some(WalEnd {
                segment: path,
                version,
                offset: end,
            }));
        }
    }
    Ok(Some(WalEnd::empty(path, name)))
}

impl WalEnd {
    fn empty(segment: PathBuf, name: SegmentName) -> Self {
        Self {
            segment,
            version: name.first.0 - 1,
            offset: 0,
        }
    }
}

/// Bytes of an entry of an index: version and offset.
const INDEX_ENTRY: u64 = 16;
/// Entries that may be ahead of their records.
const LOOK_BACK: u64 = 64;

/// The newest version that the index of the newest segment names: an estimate that costs next to nothing.
pub(crate) fn newest_version(wal: &Path) -> Option<i64> {
    let (name, path) = newest_segment(wal).ok()??;
    let index = fs::metadata(path.with_extension("idx")).ok()?.len();
    Some(name.first.0 + (index / 16) as i64 - 1)
}

fn newest_segment(wal: &Path) -> io::Result<Option<(SegmentName, PathBuf)>> {
    let mut newest = None;
    for entry in fs::read_dir(wal)? {
        let entry = entry?;
        if let Some(name) = entry.file_name().to_str().and_then(SegmentName::parse) {
            newest = newest.max(Some((name, entry.path())));
        }
    }
    Ok(newest)
}

thread_local! {
    /// The monitor whose thread this is: that can't wait for itself.
    static MONITOR: Cell<*const AtomicBool> = const { Cell::new(ptr::null()) };
}

/// Watches one log. Dropping it ends that.
#[derive(Debug)]
pub struct WalMonitor {
    stop: Arc<AtomicBool>,
    waker: Waker,
    thread: Option<JoinHandle<()>>,
}

impl std::fmt::Debug for Waker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Waker")
    }
}

impl WalMonitor {
    /// Calls `grown` with the log's end, now and whenever it is further on; false from it ends the monitor.
    pub fn start(
        wal: PathBuf,
        poll: Duration,
        mut grown: impl FnMut(&WalEnd) -> bool + Send + 'static,
    ) -> io::Result<Self> {
        fs::read_dir(&wal)?;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let mut watch = Watch::new();
        let waker = watch.waker();
        let thread = thread::Builder::new()
            .name("wal".to_owned())
            .spawn(move || {
                MONITOR.set(Arc::as_ptr(&stopped));
                let dirs = [wal.clone()].into();
                let mut last = None;
                while !stopped.load(Relaxed) {
                    watch.watch(&dirs);
                    // A segment that went away meanwhile is looked for again at the next turn.
                    let now = end(&wal).ok().flatten();
                    if let Some(now) = now
                        && last.as_ref() != Some(&now)
                    {
                        if !grown(&now) {
                            return;
                        }
                        last = Some(now);
                    }
                    watch.wait(poll);
                }
            })?;
        Ok(Self {
            stop,
            waker,
            thread: Some(thread),
        })
    }
}

impl WalMonitor {
    /// Whether it still watches; false once its listener had enough.
    pub fn is_running(&self) -> bool {
        self.thread
            .as_ref()
            .is_some_and(|thread| !thread.is_finished())
    }
}

impl Drop for WalMonitor {
    fn drop(&mut self) {
        self.stop.store(true, Relaxed);
        self.waker.wake();
        if let Some(thread) = self.thread.take()
            && MONITOR.get() != Arc::as_ptr(&self.stop)
        {
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::{io::Write as _, sync::mpsc::channel};

    fn recorded() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/data/incr_wal/vnode/vnode2/wal")
    }

    #[test]
    fn the_end_is_where_the_last_complete_record_ends() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(end(dir.path()).unwrap(), None);
        let whole = end(&recorded()).unwrap().unwrap();
        let log = fs::read(&whole.segment).unwrap();
        assert_eq!(whole.offset, log.len() as u64);
        assert_eq!(newest_version(&recorded()), Some(whole.version));
        let name = whole.segment.file_name().unwrap();
        let index = whole.segment.with_extension("idx");
        fs::copy(&index, dir.path().join(index.file_name().unwrap())).unwrap();
        for cut in [1, 57, 300] {
            fs::write(dir.path().join(name), &log[..log.len() - cut]).unwrap();
            let cut_off = end(dir.path()).unwrap().unwrap();
            assert!(cut_off.version < whole.version);
            assert!(cut_off.offset <= (log.len() - cut) as u64);
        }
        fs::write(dir.path().join(name), [7; 10_000]).unwrap();
        assert_eq!(
            end(dir.path()).unwrap().unwrap().offset,
            0,
            "no record at all"
        );
    }

    #[test]
    fn growth_is_told_until_the_listener_has_enough() {
        let dir = tempfile::tempdir().unwrap();
        let whole = end(&recorded()).unwrap().unwrap();
        let (log, index) = (&whole.segment, whole.segment.with_extension("idx"));
        let bytes = fs::read(log).unwrap();
        let to = |path: &Path| dir.path().join(path.file_name().unwrap());
        fs::write(to(log), &bytes[..bytes.len() - 1]).unwrap();
        fs::copy(&index, to(&index)).unwrap();
        let (send, told) = channel();
        let monitor = WalMonitor::start(dir.path().into(), Duration::from_millis(20), move |end| {
            send.send(end.version).unwrap();
            true
        });
        let first = told.recv().unwrap();
        // As a server does: a file that is written anew is empty for a moment.
        let mut grown = fs::OpenOptions::new().append(true).open(to(log)).unwrap();
        grown.write_all(&bytes[bytes.len() - 1..]).unwrap();
        let second = told.recv().unwrap();
        assert_eq!((first < second, second), (true, whole.version));
        drop(monitor);
        assert!(told.recv().is_err(), "nothing is told any more");
        assert!(WalMonitor::start("/no/such/wal".into(), Duration::ZERO, |_| true).is_err());
    }
}
