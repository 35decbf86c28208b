//! The text forms hold every metric, and other people's parsers read them.
#![allow(clippy::unwrap_used, clippy::panic)]

use metrics::{Kind, METRICS, Snapshot};
use prometheus_parse::{Scrape, Value};
use std::collections::BTreeSet;

/// Every metric has a value of its own.
fn snapshot() -> Snapshot {
    Snapshot {
        events_per_second: 1,
        messages_per_second: 2,
        bytes_per_second: 3,
        consumer_lag_ms: 4,
        offset_lag: 5,
        processing_delay_ms: 6.25,
        events_dropped: 7,
        messages_dropped: 8,
        parse_errors: 9,
        connection_retries: 10,
        subscription_retries: 11,
        commit_retries: 12,
        ring_buffer_usage: 13,
        ring_buffer_capacity: 14,
        event_queue_size: 15,
        memory_usage_bytes: 16,
        bitmap_memory_bytes: 17,
        metadata_memory_bytes: 18,
        last_update_time: 19,
        uptime_seconds: 20,
        blocks_dirty: 21,
        blocks_new: 22,
        blocks_deleted: 23,
        last_backup_duration_ms: 24,
        last_backup_bytes: u64::MAX,
    }
}

#[test]
fn there_are_25_metrics_with_names_of_their_own() {
    let names: BTreeSet<_> = METRICS.iter().map(|metric| metric.name).collect();
    assert_eq!((names.len(), METRICS.len()), (25, 25));
}

#[test]
fn json_holds_every_value_once() {
    let json: serde_json::Value = serde_json::from_str(&snapshot().to_json()).unwrap();
    let mut values = Vec::new();
    for (_, group) in json.as_object().unwrap() {
        for (name, value) in group.as_object().unwrap() {
            assert!(METRICS.iter().any(|metric| metric.name == name));
            values.push(value.as_f64().unwrap());
        }
    }
    values.sort_by(f64::total_cmp);
    let mut wanted: Vec<f64> = (1..=24).map(f64::from).collect();
    wanted[5] = 6.25;
    wanted.push(u64::MAX as f64);
    assert_eq!(values, wanted);
    assert_eq!(json["rate"]["events_per_second"], 1);
    assert_eq!(json["backup"]["last_backup_bytes"], u64::MAX);
}

#[test]
fn a_prometheus_parser_reads_every_value_help_and_type() {
    let text = snapshot().to_prometheus();
    let lines = text.lines().map(|line| Ok(line.to_owned()));
    let scrape = Scrape::parse(lines).unwrap();
    assert_eq!((scrape.samples.len(), scrape.docs.len()), (25, 25));
    for metric in METRICS {
        let name = format!("tdengine_{}", metric.name);
        assert_eq!(scrape.docs[&name], metric.help);
        let sample = scrape
            .samples
            .iter()
            .find(|sample| sample.metric == name)
            .unwrap();
        match (&sample.value, metric.kind) {
            (Value::Gauge(value), Kind::Gauge) | (Value::Counter(value), Kind::Counter) => {
                assert!(*value > 0.0, "{name}");
            }
            other => panic!("{name}: {other:?}"),
        }
    }
}

#[test]
fn people_see_every_metric() {
    let text = snapshot().to_human();
    for metric in METRICS {
        assert!(text.contains(metric.name), "{}", metric.name);
    }
}
