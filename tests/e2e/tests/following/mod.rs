//! What the tests of followers share: a host with engine and interceptor, and what kills server and follower.

use bitmap::{BlockId, DamagedRange, Engine, EngineConfig};
use e2e::Server;
use events::{
    bitmap_sink::BitmapSink,
    intercept::{BlockEvent, EventSink, Interceptor, InterceptorConfig},
};
use follow::files::Listener;
use libtest_mimic::Failed;
use rand::{Rng, SeedableRng, rngs::StdRng};
use std::{
    io,
    num::NonZeroUsize,
    ops::Range,
    path::Path,
    process::Child,
    sync::{Arc, RwLock},
    thread,
    time::{Duration, Instant},
};

/// Takes what a follower tells into an engine, through an interceptor.
pub struct Listening {
    engine: Arc<Engine>,
    interceptor: Interceptor,
}

impl Listening {
    /// With the engine in a directory.
    pub fn open(work: &Path) -> Result<(Arc<Engine>, Arc<Self>), Failed> {
        let engine = Arc::new(Engine::open(&EngineConfig {
            max_memory_mb: 64,
            persistence_path: Some(work.join("bitmap")),
        })?);
        let sink: Arc<dyn EventSink> = Arc::new(BitmapSink::new(Arc::clone(&engine), None));
        let config = InterceptorConfig {
            capacity: NonZeroUsize::new(1_000).ok_or("capacity")?,
            workers: NonZeroUsize::new(2).ok_or("workers")?,
        };
        let interceptor = Interceptor::new(config, sink);
        interceptor.start()?;
        let listening = Self {
            engine: Arc::clone(&engine),
            interceptor,
        };
        Ok((engine, Arc::new(listening)))
    }
}

impl Listener for Listening {
    fn block(&self, event: BlockEvent) -> bool {
        self.interceptor.raise(event).is_ok()
    }

    fn range(&self, first: u64, last: u64, wal: u64, time: i64, why: &str) -> bool {
        let at = bitmap::MarkedAt::new(wal, time);
        let marked = self
            .engine
            .mark_range(BlockId(first), BlockId(last), at, why);
        marked.is_ok()
    }

    fn settle(&self) -> bool {
        self.interceptor.settle(Duration::from_secs(10)) && self.engine.sync().is_ok()
    }
}

/// Whether a range of the bitmap's covers everything: then nothing shows what was seen.
pub fn everything_is_dirty(engine: &Engine) -> bool {
    let whole = |range: &DamagedRange| range.first.0 == 0 && range.last.0 == u64::MAX;
    engine.damage().iter().any(whole)
}

/// A follower in a process of its own, which ends with the test, however that ends.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// How a round went.
pub enum Round<T> {
    Done(T),
    /// A killed server cannot open its own WAL any more, so there is nothing to compare with.
    ServerLost(io::Error),
}

/// Calls `round` with a seed, and with another one if the server was lost, up to three times.
pub fn with_a_server_that_lasts(
    seed: u64,
    round: impl Fn(u64) -> Result<Round<()>, Failed>,
) -> Result<(), Failed> {
    let mut lost = String::new();
    for seed in [seed, seed + 10, seed + 20] {
        match round(seed)? {
            Round::Done(()) => return Ok(()),
            Round::ServerLost(error) => {
                lost = format!("E2E_SEED={seed}: {error}");
                eprintln!("  lost the server, {lost}");
            }
        }
    }
    Err(lost.into())
}

/// Kills and restarts the follower and the server, for so many seconds, with pauses of so many ms. Returns how often
/// each.
pub fn disturb(
    server: &RwLock<Server>,
    seed: u64,
    seconds: u64,
    pauses: Range<u64>,
    spawn: impl Fn() -> Result<Child, Failed>,
) -> Result<Round<(u64, u64)>, Failed> {
    let mut rng = StdRng::seed_from_u64(seed ^ 0xF011);
    let (mut of_server, mut of_follower) = (0, 0);
    let end = Instant::now() + Duration::from_secs(seconds);
    let mut follower = Killed(spawn()?);
    while Instant::now() < end {
        thread::sleep(Duration::from_millis(rng.random_range(pauses.clone())));
        if rng.random_ratio(1, 3) {
            let mut server = server.write().map_err(|e| e.to_string())?;
            // Now and then a killed server is lost, so most are stopped.
            if rng.random_ratio(1, 3) {
                server.kill();
            } else {
                server.stop();
            }
            match server.restart() {
                Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                    return Ok(Round::ServerLost(error));
                }
                restarted => restarted?,
            }
            of_server += 1;
        } else {
            follower.0.kill()?;
            follower.0.wait()?;
            follower = Killed(spawn()?);
            of_follower += 1;
        }
        if let Some(status) = follower.0.try_wait()? {
            return Err(format!("the follower ended by itself: {status}").into());
        }
    }
    follower.0.kill()?;
    follower.0.wait()?;
    Ok(Round::Done((of_server, of_follower + 1)))
}
