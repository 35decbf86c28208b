//! A progress bar on a terminal, nothing in a pipe.

use backup::{detect, dump, verify};
use indicatif::{ProgressBar, ProgressStyle};
use std::path::Path;

/// Hidden unless standard error is a terminal.
fn bar(template: &str) -> ProgressBar {
    let bar = ProgressBar::new(0);
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar
}

/// Progress over the vnodes of a run, on standard error.
pub(crate) struct Bar(ProgressBar);

impl Bar {
    pub(crate) fn new() -> Self {
        Self(bar(
            "{bar:30} {pos}/{len} vnodes, {msg}, {elapsed} (ETA {eta})",
        ))
    }

    pub(crate) fn finish(&self) {
        self.0.finish_and_clear();
    }
}

impl detect::Progress for Bar {
    fn vnode(&self, done: usize, total: usize, rows: u64) {
        self.0.set_length(total as u64);
        self.0.set_position(done as u64);
        self.0.set_message(format!("{rows} changed rows"));
    }
}

/// Progress over the tables of a dump or restore, on standard error.
pub(crate) struct TableBar(ProgressBar);

impl TableBar {
    pub(crate) fn new() -> Self {
        Self(bar(
            "{prefix}: {bar:30} {pos}/{len} tables, {per_sec}, {msg}, {elapsed} (ETA {eta})",
        ))
    }

    pub(crate) fn finish(&self) {
        self.0.finish_and_clear();
    }
}

impl dump::Progress for TableBar {
    fn step(&self, what: &str) {
        self.0.set_prefix(what.to_owned());
        self.0.set_length(0);
        self.0.set_position(0);
        self.0.set_message("");
        self.0.tick();
    }

    fn tables(&self, done: u64, total: u64, rows: u64) {
        self.0.set_length(total);
        self.0.set_position(done);
        self.0.set_message(format!("{rows} rows"));
    }
}

/// Progress over the bytes of links, on standard error.
pub(crate) struct ByteBar(ProgressBar);

impl ByteBar {
    pub(crate) fn new() -> Self {
        Self(bar(
            "{prefix}: {bar:30} {bytes}/{total_bytes}, {bytes_per_sec}, {elapsed} (ETA {eta})",
        ))
    }

    pub(crate) fn finish(&self) {
        self.0.finish_and_clear();
    }
}

impl verify::Progress for ByteBar {
    fn link(&self, number: usize, total: usize, root: &Path, bytes: u64) {
        self.0
            .set_prefix(format!("checking {} ({number} of {total})", root.display()));
        self.0.set_length(bytes);
        self.0.set_position(0);
        self.0.tick();
    }

    fn bytes(&self, more: u64) {
        self.0.inc(more);
    }
}
