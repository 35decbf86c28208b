//! docs/metrics.md, its alert rules and the dashboard know every metric, and no other.
#![allow(clippy::unwrap_used)]

use metrics::METRICS;
use std::{collections::BTreeSet, fs, path::Path};

fn doc(name: &str) -> String {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs");
    fs::read_to_string(docs.join(name)).unwrap()
}

/// What is called `tdengine_…` in a text, without that.
fn used(text: &str) -> BTreeSet<String> {
    text.split("tdengine_")
        .skip(1)
        .map(|rest| {
            rest.chars()
                .take_while(|c| c.is_ascii_lowercase() || *c == '_')
                .collect()
        })
        .filter(|name: &String| !name.is_empty())
        .collect()
}

fn names() -> BTreeSet<String> {
    METRICS
        .iter()
        .map(|metric| metric.name.to_owned())
        .collect()
}

#[test]
fn the_table_lists_every_metric_in_order() {
    let text = doc("metrics.md");
    let rows = text.lines().filter_map(|line| line.strip_prefix("| `"));
    let listed: Vec<&str> = rows.map(|row| row.split('`').next().unwrap()).collect();
    let wanted: Vec<&str> = METRICS.iter().map(|metric| metric.name).collect();
    assert_eq!(listed, wanted);
}

#[test]
fn alert_rules_use_metrics_that_exist() {
    let used = used(&doc("metrics.md"));
    assert!(used.len() >= 6 && used.is_subset(&names()), "{used:?}");
}

#[test]
fn the_dashboard_is_json_and_shows_every_metric_and_no_other() {
    let dashboard: serde_json::Value =
        serde_json::from_str(&doc("grafana-dashboard.json")).unwrap();
    let mut shown = BTreeSet::new();
    for panel in dashboard["panels"].as_array().unwrap() {
        for target in panel["targets"].as_array().unwrap() {
            shown.extend(used(target["expr"].as_str().unwrap()));
        }
    }
    assert_eq!(shown, names());
}
