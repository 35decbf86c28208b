//! What the metrics cost where events are taken in: a batch of 256 marks without and with them, and they alone.

use bitmap::{BlockId, Engine, EngineConfig, Mark, MarkedAt};
use criterion::{Criterion, criterion_group, criterion_main};
use metrics::{Metrics, Readings, Source};
use std::{hint::black_box, sync::Arc, time::Duration};

const BATCH: u64 = 256;

fn take_in(engine: &Engine, first: &mut u64) {
    for i in 0..BATCH {
        let id = (*first + i) % 1_000_000;
        let _ = black_box(engine.mark(BlockId(id), Mark::Dirty, MarkedAt::new(id, id as i64)));
    }
    *first += BATCH;
}

fn overhead(criterion: &mut Criterion) {
    let Ok(engine) = Engine::open(&EngineConfig::default()) else {
        return;
    };
    let metrics = Metrics::new();
    let delays = [Duration::from_micros(3); BATCH as usize / 64];
    let mut group = criterion.benchmark_group("a batch of 256 events");
    let mut first = 0;
    group.bench_function("marks alone", |b| b.iter(|| take_in(&engine, &mut first)));
    group.bench_function("marks with metrics", |b| {
        b.iter(|| {
            take_in(&engine, &mut first);
            metrics.events_taken(BATCH, black_box(&delays));
        });
    });
    group.bench_function("metrics alone", |b| {
        b.iter(|| metrics.events_taken(BATCH, black_box(&delays)));
    });
    group.finish();
}

struct Nothing;

impl Source for Nothing {
    fn read(&self, readings: &mut Readings) {
        readings.queued += 1;
    }
}

fn snapshot(criterion: &mut Criterion) {
    let metrics = Metrics::new();
    let sources: Vec<Arc<dyn Source>> = (0..10)
        .map(|_| Arc::new(Nothing) as Arc<dyn Source>)
        .collect();
    sources.iter().for_each(|source| metrics.register(source));
    criterion.bench_function("a snapshot of ten sources", |b| b.iter(|| metrics.update()));
    let snapshot = metrics.update();
    criterion.bench_function("a snapshot as Prometheus text", |b| {
        b.iter(|| snapshot.to_prometheus());
    });
}

criterion_group!(benches, overhead, snapshot);
criterion_main!(benches);
