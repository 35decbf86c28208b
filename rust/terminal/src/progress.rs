//! A progress bar on a terminal, in a pipe only what is waited for; and Ctrl-C, which ends work where it leaves nothing half done.

use crate::{Exit, report};
use indicatif::{ProgressBar, ProgressStyle};
use model::{Progress, Unit};
use signal_hook::{
    consts::{SIGINT, SIGPIPE, SIGTERM},
    flag,
};
use std::{
    error::Error,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
};

/// Progress on standard error. It is cancelled by SIGINT or SIGTERM; the second one ends the process at once.
#[derive(Debug)]
pub struct Bar {
    bar: ProgressBar,
    rows: AtomicU64,
    cancelled: Arc<AtomicBool>,
    /// Whether the process ends when work gives up, and whether its result is JSON then.
    ends: Option<Json>,
}

/// Whether a result is printed as JSON.
type Json = bool;

impl Bar {
    /// A bar without a step yet. It is hidden unless standard error is a terminal.
    pub fn new() -> Self {
        Self {
            bar: ProgressBar::new(0),
            rows: AtomicU64::new(0),
            cancelled: interrupted(),
            ends: None,
        }
    }

    /// The same for work that leaves nothing behind when the process ends: it does, as failed, when the work gives up.
    pub fn of_a_program(json: bool) -> Self {
        Self {
            ends: Some(json),
            ..Self::new()
        }
    }

    /// Takes the bar away.
    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

impl Default for Bar {
    fn default() -> Self {
        Self::new()
    }
}

impl Progress for Bar {
    fn step(&self, what: &str, unit: Unit, total: u64) {
        let template = match (unit, total) {
            (_, 0) => "{prefix}, {elapsed} {msg}",
            (Unit::Vnodes, _) => {
                "{prefix}: {bar:30} {pos}/{len} vnodes, {msg}, {elapsed} (ETA {eta})"
            }
            (Unit::Tables, _) => {
                "{prefix}: {bar:30} {pos}/{len} tables, {per_sec}, {msg}, {elapsed} (ETA {eta})"
            }
            (Unit::Bytes, _) => {
                "{prefix}: {bar:30} {bytes}/{total_bytes}, {bytes_per_sec}, {elapsed} (ETA {eta})"
            }
        };
        if let Ok(style) = ProgressStyle::with_template(template) {
            self.bar.set_style(style);
        }
        self.rows.store(0, Relaxed);
        self.bar.set_prefix(what.to_owned());
        self.bar.set_message("");
        self.bar.set_length(total);
        self.bar.reset();
        self.bar.tick();
    }

    fn advance(&self, units: u64, rows: u64) {
        let rows = self.rows.fetch_add(rows, Relaxed) + rows;
        self.bar.inc(units);
        if rows > 0 {
            self.bar.set_message(format!("{rows} rows"));
        }
    }

    fn waits(&self, what: &str) {
        // In a pipe too: silence looks like a program that hangs.
        self.bar.suspend(|| eprintln!("{what}"));
    }

    fn gives_up(&self, why: &dyn Error) {
        if let Some(json) = self.ends {
            self.finish();
            report::failed(why, json);
            // What the library has registered for the end of the process would wait for the server, too.
            signal_hook::low_level::exit(Exit::Failed as i32);
        }
    }

    fn is_cancelled(&self) -> bool {
        self.cancelled.load(Relaxed)
    }
}

/// Whether somebody wants the program to end. From the first call on, that is asked for by a signal.
fn interrupted() -> Arc<AtomicBool> {
    static INTERRUPTED: OnceLock<Arc<AtomicBool>> = OnceLock::new();
    let flag = INTERRUPTED.get_or_init(|| {
        let flag = Arc::new(AtomicBool::new(false));
        // A write to a server that is gone raises this one, which would end a program in C without a word; handled, it is an
        // error of that write.
        let _ = flag::register(SIGPIPE, Arc::default());
        for signal in [SIGINT, SIGTERM] {
            // Where no handler can be set, the signal ends the process as ever. The order matters: the first signal finds
            // the flag still down, and raises it only then.
            let _ = flag::register_conditional_shutdown(signal, 1, Arc::clone(&flag))
                .and_then(|_| flag::register(signal, Arc::clone(&flag)));
        }
        flag
    });
    Arc::clone(flag)
}
