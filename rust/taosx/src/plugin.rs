//! The plugin's life: initialised, configured, running, stopped, and again.

use crate::header::{self, TaosX_PluginStats};
use bitmap::{BlockId, Engine, EngineConfig, EngineError, MarkedAt};
use config::{Config, Layers, Program, Settings};
use events::{
    bitmap_sink::{BitmapSink, EngineGauges, InterceptorGauges},
    intercept::{
        BlockEvent, EventKind, EventSink, Gap, InterceptError, InterceptStats, Interceptor,
        InterceptorConfig,
    },
};
use metrics::Source;
use parking_lot::{Mutex, RwLock};
use std::{
    fmt::Display,
    num::NonZeroUsize,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

/// Why a call did not do it.
pub(crate) struct Failure {
    pub(crate) code: i32,
    pub(crate) words: String,
}

impl Failure {
    fn new(code: i32, words: impl Display) -> Self {
        Self {
            code,
            words: words.to_string(),
        }
    }

    pub(crate) fn argument(words: impl Display) -> Self {
        Self::new(header::TAOSX_PLUGIN_ERR_INVALID_ARG, words)
    }

    pub(crate) fn internal(words: impl Display) -> Self {
        Self::new(header::TAOSX_PLUGIN_ERR_INTERNAL, words)
    }

    fn not_initialized() -> Self {
        let code = header::TAOSX_PLUGIN_ERR_NOT_INITIALIZED;
        Self::new(code, "taosx_plugin_init was not called")
    }

    fn running() -> Self {
        let code = header::TAOSX_PLUGIN_ERR_ALREADY_RUNNING;
        Self::new(code, "it is running already: stop it first")
    }
}

impl From<EngineError> for Failure {
    fn from(error: EngineError) -> Self {
        Self::internal(error)
    }
}

impl From<InterceptError> for Failure {
    fn from(error: InterceptError) -> Self {
        Self::internal(error)
    }
}

/// The plugin of this process.
pub(crate) static PLUGIN: Plugin = Plugin {
    state: RwLock::new(None),
    errors: AtomicU64::new(0),
};

pub(crate) struct Plugin {
    /// None before init. Events take it for reading.
    state: RwLock<Option<State>>,
    errors: AtomicU64,
}

struct State {
    since: Instant,
    settings: Settings,
    /// What earlier runs with other settings counted.
    before: InterceptStats,
    open: Option<Open>,
    running: bool,
}

/// The bitmap, and what feeds it.
struct Open {
    engine: Arc<Engine>,
    interceptor: Arc<Interceptor>,
    _gauges: [Arc<dyn Source>; 2],
}

impl Plugin {
    pub(crate) fn count_error(&self) {
        self.errors.fetch_add(1, Relaxed);
    }

    pub(crate) fn must_be_initialized(&self) -> Result<(), Failure> {
        let state = self.state.read();
        state
            .as_ref()
            .map(|_| ())
            .ok_or_else(Failure::not_initialized)
    }

    pub(crate) fn init(&self) -> Result<(), Failure> {
        let mut state = self.state.write();
        if state.is_some() {
            return Err(Failure::running());
        }
        self.errors.store(0, Relaxed);
        *state = Some(State {
            since: Instant::now(),
            settings: settings(Vec::new())?,
            before: InterceptStats::default(),
            open: None,
            running: false,
        });
        Ok(())
    }

    fn change<T>(
        &self,
        change: impl FnOnce(&mut State) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        change(
            self.state
                .write()
                .as_mut()
                .ok_or_else(Failure::not_initialized)?,
        )
    }

    pub(crate) fn shutdown(&self) -> Result<(), Failure> {
        let state = self
            .state
            .write()
            .take()
            .ok_or_else(Failure::not_initialized)?;
        match &state.open {
            Some(open) => open.stop(),
            None => Ok(()),
        }
    }

    pub(crate) fn configure(&self, pairs: Vec<(String, String)>) -> Result<(), Failure> {
        self.change(|state| {
            if state.running {
                return Err(Failure::running());
            }
            let settings = settings(pairs)?;
            // A stop that failed may have left something that is not on disk.
            state.open.as_ref().map_or(Ok(()), Open::stop)?;
            state.settings = settings;
            state.close();
            Ok(())
        })
    }

    pub(crate) fn start(&self) -> Result<(), Failure> {
        self.change(|state| {
            if state.running {
                return Err(Failure::running());
            }
            let open = match &state.open {
                Some(open) => open,
                None => state.open.insert(Open::new(&state.settings)?),
            };
            open.interceptor.start()?;
            state.running = true;
            tracing::info!("the incremental bitmap takes events");
            Ok(())
        })
    }

    pub(crate) fn stop(&self) -> Result<(), Failure> {
        self.change(|state| {
            state.running = false;
            tracing::info!("the incremental bitmap is stopped");
            state.open.as_ref().map_or(Ok(()), Open::stop)
        })
    }

    pub(crate) fn raise(&self, event: BlockEvent) -> Result<(), Failure> {
        let interceptor = {
            let state = self.state.read();
            let state = state.as_ref().ok_or_else(Failure::not_initialized)?;
            if !state.settings.event_interceptor.enable {
                return Err(Failure::internal(
                    "the plugin is not enabled: set enable to true",
                ));
            }
            // Without the lock: a full queue may keep the event waiting.
            state
                .open
                .as_ref()
                .map(|open| Arc::clone(&open.interceptor))
        };
        let not_started = || Failure::internal("the plugin is not started");
        interceptor.ok_or_else(not_started)?.raise(event)?;
        Ok(())
    }

    pub(crate) fn engine(&self) -> Result<Arc<Engine>, Failure> {
        let state = self.state.read();
        let state = state.as_ref().ok_or_else(Failure::not_initialized)?;
        let open = state.open.as_ref();
        open.map(|open| Arc::clone(&open.engine))
            .ok_or_else(|| Failure::internal("the plugin was not started yet"))
    }

    /// Why the engine can't name every block that must be backed up, if it can't.
    pub(crate) fn unnamed(&self) -> Option<String> {
        let state = self.state.read();
        let open = state.as_ref()?.open.as_ref()?;
        let ranges = open.engine.damage();
        let gap = open.interceptor.gap().hull();
        let range = ranges.first().map(|range| (range.first.0, range.last.0));
        let (first, last) = range.or(gap)?;
        let count = ranges.len() + usize::from(gap.is_some());
        Some(format!(
            "of {count} ranges, the first from block {first} to {last}, any block may have changed, also those that have no \
             id here: back them up whole"
        ))
    }

    pub(crate) fn stats(&self) -> Result<TaosX_PluginStats, Failure> {
        let state = self.state.read();
        let state = state.as_ref().ok_or_else(Failure::not_initialized)?;
        let now = state
            .open
            .as_ref()
            .map(|open| open.interceptor.stats())
            .unwrap_or_default();
        let memory = state.open.as_ref().map_or(0, |open| {
            open.engine.memory().current + open.interceptor.memory()
        });
        Ok(TaosX_PluginStats {
            uptime_seconds: state.since.elapsed().as_secs(),
            error_count: self.errors.load(Relaxed),
            events_processed: state.before.processed + now.processed,
            events_dropped: state.before.dropped + now.dropped,
            memory_usage_bytes: memory as usize,
            ring_buffer_usage_percent: (now.queued * 100).checked_div(now.capacity).unwrap_or(0)
                as u32,
        })
    }
}

impl State {
    /// Gives the bitmap up, to be opened anew with other settings.
    fn close(&mut self) {
        if let Some(open) = self.open.take() {
            let stats = open.interceptor.stats();
            self.before.processed += stats.processed;
            self.before.dropped += stats.dropped;
        }
    }
}

/// The environment variables of these settings are heard; what else it says is for others.
const HEARD: [&str; 3] = [
    "event_interceptor.callback_threads",
    "log.level",
    "log.debug",
];

fn settings(pairs: Vec<(String, String)>) -> Result<Settings, Failure> {
    let names = HEARD.into_iter().filter_map(config::table::by_key);
    let variables = names
        .flat_map(|setting| setting.env)
        .filter_map(|name| Some((*name, std::env::var(name).ok()?)));
    let layers = Layers::default().taosx(pairs).env(variables);
    let config = Config::from(&layers).map_err(Failure::argument)?;
    logging::begin(&config, Program::TaosX);
    Ok(config.settings)
}

impl Open {
    fn new(settings: &Settings) -> Result<Self, Failure> {
        let bitmap = &settings.bitmap_engine;
        let path = bitmap.persistence_path.clone();
        let engine = Arc::new(Engine::open(&EngineConfig {
            max_memory_mb: bitmap.memory_limit_mb,
            persistence_path: path.filter(|_| bitmap.persistence_enabled),
        })?);
        let limits = Limits {
            sink: BitmapSink::new(Arc::clone(&engine), None),
            engine: Arc::clone(&engine),
            most_blocks: match bitmap.max_blocks {
                0 => u64::MAX,
                most => most.into(),
            },
            cleanup_percent: bitmap
                .memory_monitor
                .then_some(bitmap.lru_cleanup_threshold),
            looked: Mutex::new(Instant::now()),
        };
        let events = &settings.event_interceptor;
        let config = InterceptorConfig {
            capacity: NonZeroUsize::new(events.buffer_size as usize).unwrap_or(NonZeroUsize::MIN),
            workers: NonZeroUsize::new(events.callback_threads as usize)
                .unwrap_or_else(InterceptorConfig::default_workers),
        };
        let interceptor = Arc::new(Interceptor::new(config, Arc::new(limits)));
        let gauges: [Arc<dyn Source>; 2] = [
            Arc::new(EngineGauges(Arc::downgrade(&engine))),
            Arc::new(InterceptorGauges(Arc::downgrade(&interceptor))),
        ];
        gauges
            .iter()
            .for_each(|gauges| metrics::global().register(gauges));
        Ok(Self {
            engine,
            interceptor,
            _gauges: gauges,
        })
    }

    fn stop(&self) -> Result<(), Failure> {
        self.interceptor.stop()?;
        self.engine.sync()?;
        Ok(())
    }
}

/// The bitmap with taosX' limits. A block beyond `max_blocks` is not held, but counted as changed in a range, so it is
/// backed up all the same.
struct Limits {
    sink: BitmapSink,
    engine: Arc<Engine>,
    most_blocks: u64,
    cleanup_percent: Option<u32>,
    looked: Mutex<Instant>,
}

/// How often memory is looked at.
const LOOK: Duration = Duration::from_secs(1);

impl Limits {
    fn has_room(&self, block: u64) -> bool {
        self.most_blocks == u64::MAX
            || self.engine.state(BlockId(block)).is_ok()
            || self.engine.counts().total < self.most_blocks
    }
}

impl EventSink for Limits {
    fn take(&self, event: &BlockEvent) -> bool {
        // A flush adds no block.
        let fits = event.kind == EventKind::Flush || self.has_room(event.block);
        fits && self.sink.take(event)
    }

    fn take_gap(&self, gap: &Gap) -> bool {
        let (known, beyond): (Vec<u64>, Vec<u64>) =
            gap.blocks.iter().partition(|block| self.has_room(**block));
        let held = Gap {
            blocks: known.into_iter().collect(),
            ..gap.clone()
        };
        let range = beyond.first().zip(beyond.last());
        let why = "more blocks changed than max_blocks holds";
        let marked = MarkedAt::new(gap.wal, gap.time);
        let beyond = range.is_none_or(|(first, last)| {
            let (first, last) = (BlockId(*first), BlockId(*last));
            self.engine.mark_range(first, last, marked, why).is_ok()
        });
        beyond && self.sink.take_gap(&held)
    }

    fn take_whole(&self, gap: &Gap) -> bool {
        self.sink.take_whole(gap)
    }

    fn taken(&self, events: u64, delays: &[Duration]) {
        self.sink.taken(events, delays);
        let (Some(percent), Some(mut looked)) = (self.cleanup_percent, self.looked.try_lock())
        else {
            return;
        };
        if looked.elapsed() >= LOOK {
            *looked = Instant::now();
            if self.engine.memory().percent() > f64::from(percent) {
                let target = u64::from(self.engine.memory_limit()) * u64::from(percent) / 100;
                let freed = self.engine.cleanup_memory(target as u32);
                tracing::debug!(
                    "more than {percent} % of the memory limit is in use: {freed:?} bytes went to disk"
                );
            }
        }
    }

    fn dropped(&self, events: u64) {
        self.sink.dropped(events);
    }
}
