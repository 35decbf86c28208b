//! A snapshot as text: for programs, for Prometheus, for people.

use crate::{
    Snapshot,
    catalogue::{Group, Kind, METRICS, Value},
};
use std::fmt::{self, Write as _};

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Whole(whole) => write!(f, "{whole}"),
            Self::Real(real) if real.is_finite() => write!(f, "{real:.6}"),
            Self::Real(_) => f.write_str("0"),
        }
    }
}

impl Snapshot {
    /// One JSON object: `{"rate":{"events_per_second":0,…},"lag":{…},…}`.
    pub fn to_json(&self) -> String {
        let mut text = String::from("{");
        let mut open: Option<Group> = None;
        for metric in METRICS {
            if open == Some(metric.group) {
                text.push(',');
            } else {
                text.push_str(if open.is_some() { "}," } else { "" });
                let _ = write!(text, "\"{}\":{{", metric.group.name());
                open = Some(metric.group);
            }
            let _ = write!(text, "\"{}\":{}", metric.name, (metric.value)(self));
        }
        text.push_str("}}");
        text
    }

    /// The text format of Prometheus, version 0.0.4.
    pub fn to_prometheus(&self) -> String {
        let mut text = String::new();
        for metric in METRICS {
            let name = metric.name;
            let kind = match metric.kind {
                Kind::Gauge => "gauge",
                Kind::Counter => "counter",
            };
            let _ = write!(
                text,
                "# HELP tdengine_{name} {}\n# TYPE tdengine_{name} {kind}\ntdengine_{name} {}\n",
                metric.help,
                (metric.value)(self)
            );
        }
        text
    }

    /// One line a metric, by group.
    pub fn to_human(&self) -> String {
        let mut text = String::new();
        let mut open: Option<Group> = None;
        for metric in METRICS {
            if open != Some(metric.group) {
                let _ = writeln!(text, "{}", metric.group.name());
                open = Some(metric.group);
            }
            let _ = writeln!(text, "  {:<26}{}", metric.name, (metric.value)(self));
        }
        text
    }
}
