//! Everything the tool writes is what the published schema says.

#![allow(clippy::unwrap_used)]

use capture::SourceChoice;
use model::Version;
use plan::{
    detect::{self, Request, Since},
    report,
};
use recorded::data_dir;
use serde_json::Value;
use std::path::Path;

#[test]
fn reports_and_checkpoints_follow_the_schema() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/detect-output.schema.json");
    let schema: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let report_schema = jsonschema::validator_for(&schema).unwrap();
    let mut checkpoint = schema.clone();
    let object = checkpoint.as_object_mut().unwrap();
    object.retain(|key, _| key.starts_with('$') && key != "$id");
    object.insert("$ref".to_owned(), "#/$defs/checkpoint".into());
    let checkpoint_schema = jsonschema::validator_for(&checkpoint).unwrap();

    for state in ["base", "incr_wal", "incr_flushed"] {
        for source in [SourceChoice::Auto, SourceChoice::Tsdb, SourceChoice::Wal] {
            for since in [-1, 20, 25] {
                let request = Request {
                    data_dirs: vec![data_dir(state)],
                    database: None,
                    vgroup: None,
                    since: Since::Version(Version(since)),
                    source,
                    window: None,
                };
                let detection = detect::run(&request, &()).unwrap();
                let json: Value =
                    serde_json::from_slice(&report::to_json(&detection).unwrap()).unwrap();
                let wrong: Vec<_> = report_schema
                    .iter_errors(&json)
                    .map(|e| e.to_string())
                    .collect();
                assert!(wrong.is_empty(), "{state} since {since}: {wrong:?}");
                let bytes = detection.checkpoint.to_bytes().unwrap();
                let json: Value = serde_json::from_slice(&bytes).unwrap();
                let wrong: Vec<_> = checkpoint_schema
                    .iter_errors(&json)
                    .map(|e| e.to_string())
                    .collect();
                assert!(wrong.is_empty(), "checkpoint of {state}: {wrong:?}");
            }
        }
    }
    let mut broken: Value = serde_json::json!({"format": 1});
    assert!(
        !report_schema.is_valid(&broken),
        "the schema refuses what is not a report"
    );
    broken["database"] = "x".into();
    assert!(!checkpoint_schema.is_valid(&broken));
}
