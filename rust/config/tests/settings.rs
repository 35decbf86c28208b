//! Settings from every place, right and wrong.

#![allow(clippy::unwrap_used, clippy::panic)]

use config::{
    Config, ConfigError, Layers, Live, Origin, Program, Settings,
    table::{Field, TABLE},
};
use proptest::prelude::*;
use std::{fs, path::PathBuf};

fn json(text: &str) -> Result<Config, ConfigError> {
    Config::from(&Layers::default().text(text))
}

fn refused(text: &str) -> String {
    json(text).unwrap_err().to_string()
}

#[test]
fn without_anything_every_setting_has_its_default() {
    let config = Config::from(&Layers::default()).unwrap();
    assert_eq!(config.settings, Settings::default());
    assert!(
        TABLE
            .iter()
            .all(|s| config.origin(s.key) == Origin::Default)
    );
}

#[test]
fn the_published_example_is_understood() {
    let config = json(
        r#"{
            "plugin": {"name": "incremental_bitmap", "version": "1.0.0", "library_path": "/opt/lib.so"},
            "bitmap_engine": {"type": "roaring", "memory_limit_mb": 1024, "persistence_path": "/var/lib/bitmap"},
            "event_interceptor": {"enable": true, "buffer_size": 10000, "callback_threads": 4},
            "backup": {"batch_size": 1000, "compression": true, "encryption": false, "retry_count": 3,
                       "retry_interval_ms": 1000}
        }"#,
    )
    .unwrap();
    assert_eq!(config.settings.event_interceptor.callback_threads, 4);
    assert_eq!(
        config.settings.bitmap_engine.state_dir(),
        Some("/var/lib/bitmap".as_ref())
    );
    assert_eq!(config.origin("backup.batch_size"), Origin::File);
}

#[test]
fn the_published_taosx_table_is_understood_beside_taosx_own_settings() {
    let config = Config::from(&Layers::default().text(
        "[server]\nport = 6050\n[plugins.other]\nx = 1\n[plugins.incremental_bitmap]\nenable = false\n\
         max_blocks = 1000000\nmemory_limit_mb = 512\nenable_persistence = true\npersist_path = '/data'\n\
         event_buffer_size = 20000\ncallback_threads = 8\nlru_cleanup_threshold = 70\nenable_memory_monitor = false\n",
    ))
    .unwrap();
    let engine = &config.settings.bitmap_engine;
    assert_eq!(
        (
            engine.max_blocks,
            engine.memory_limit_mb,
            engine.lru_cleanup_threshold
        ),
        (1_000_000, 512, 70)
    );
    assert_eq!(engine.state_dir(), Some("/data".as_ref()));
    let events = &config.settings.event_interceptor;
    assert_eq!(
        (events.enable, events.buffer_size, events.callback_threads),
        (false, 20_000, 8)
    );
    let pairs = [("memory_limit_mb", "7"), ("enable", "off")];
    let config = Config::from(&Layers::default().taosx(pairs)).unwrap();
    assert_eq!(config.settings.bitmap_engine.memory_limit_mb, 7);
    assert!(!config.settings.event_interceptor.enable);
}

#[test]
fn a_flag_goes_over_the_environment_over_the_file_over_the_default() {
    let file =
        Layers::default().text(r#"{"source": {"host": "file", "port": 1, "database": "file"}}"#);
    let env = file.env([
        ("TD_CONNECT_IP", "env"),
        ("TD_CONNECT_PORT", "2"),
        ("TD_USERNAME", ""),
    ]);
    let config = Config::from(&env.flag("source.host", "flag")).unwrap();
    let source = &config.settings.source;
    assert_eq!(source.host.as_deref(), Some("flag"));
    assert_eq!(source.port, 2);
    assert_eq!(source.database.as_deref(), Some("file"));
    assert_eq!(source.user, None, "an empty variable counts as not set");
    assert_eq!(config.origin("source.host"), Origin::Flag);
    assert_eq!(config.origin("source.port"), Origin::Env("TD_CONNECT_PORT"));
    assert_eq!(config.origin("source.database"), Origin::File);
}

#[test]
fn every_documented_variable_sets_something() {
    for name in [
        "TDENGINE_PLUGIN_PATH",
        "TDENGINE_LOG_LEVEL",
        "TDENGINE_TEMP_PATH",
        "TD_CONNECT_IP",
        "TD_CONNECT_PORT",
        "TD_USERNAME",
        "TD_PASSWORD",
        "TD_DATABASE",
        "TD_TOPIC_NAME",
        "TD_GROUP_ID",
        "IB_CALLBACK_THREADS",
        "TDENGINE_DEBUG",
        "BITMAP_DEBUG",
        "TAOS_BITMAP_DEBUG",
        "TMQ_KEY_CONNECT_TIMEOUT",
        "TMQ_KEY_REQUEST_TIMEOUT",
    ] {
        let setting = TABLE.iter().find(|s| s.env.contains(&name)).unwrap();
        let value = match &setting.field {
            Field::Flag(_) => "1",
            Field::Number(..) => "5",
            Field::Word(words, _) => words[0],
            _ => "text",
        };
        let config = Config::from(&Layers::default().env([(name, value)])).unwrap();
        assert_eq!(config.origin(setting.key), Origin::Env(name), "{name}");
        assert_ne!(config.settings, Settings::default(), "{name}");
    }
}

#[test]
fn what_is_not_understood_is_named_with_its_value_and_what_is_allowed() {
    for (text, says) in [
        (
            r#"{"backups": {}}"#,
            &[
                "no setting backups",
                "plugin, bitmap_engine, event_interceptor, backup",
            ][..],
        ),
        (
            r#"{"backup": {"batchsize": 7}}"#,
            &[
                "no setting backup.batchsize",
                "is 7",
                "batch_size, compression",
            ],
        ),
        (r#"{"backup": 7}"#, &["backup is 7", "a section"]),
        (
            r#"{"backup": {"batch_size": "7"}}"#,
            &["backup.batch_size is \"7\"", "from 1 to 1000000"],
        ),
        (
            r#"{"backup": {"batch_size": 7.5}}"#,
            &["is 7.5", "whole number"],
        ),
        (r#"{"backup": {"batch_size": -1}}"#, &["is -1"]),
        (r#"{"backup": {"batch_size": 1000001}}"#, &["is 1000001"]),
        (
            r#"{"backup": {"batch_size": 99999999999999999999}}"#,
            &["backup.batch_size"],
        ),
        (
            r#"{"backup": {"compression": "yes"}}"#,
            &["backup.compression is \"yes\"", "true or false"],
        ),
        (r#"{"backup": {"compression": null}}"#, &["is null"]),
        (
            r#"{"bitmap_engine": {"type": "skiplist"}}"#,
            &["is \"skiplist\"", "allowed is \"roaring\""],
        ),
        (
            r#"{"bitmap_engine": {"memory_limit_mb": 0}}"#,
            &["memory_limit_mb is 0", "from 1 to"],
        ),
        (
            r#"{"bitmap_engine": {"persistence_path": ""}}"#,
            &["persistence_path is \"\"", "a path"],
        ),
        (
            r#"{"bitmap_engine": {"persistence_path": "a\u0000b"}}"#,
            &["a\\0b"],
        ),
        (
            r#"{"source": {"data_dirs": "x"}}"#,
            &["source.data_dirs is \"x\"", "a list of paths"],
        ),
        (r#"{"source": {"data_dirs": ["x", 3]}}"#, &["a list of 2"]),
        (r#"{"backup": {"encryption": true}}"#, &["key_file"]),
        (
            r#"{"backup": {"retry_count": 1, "retry_count": 2}}"#,
            &["backup.retry_count is given twice"],
        ),
        (
            r#"{"backup": {}, "backup": {}}"#,
            &["backup is given twice"],
        ),
        ("[1]", &["configuration"]),
        (r#"{"backup": {"#, &["EOF", "line 1"]),
        (
            "[plugins.incremental_bitmap]\nx = 1",
            &["no setting x", "max_blocks"],
        ),
        (
            "[plugins.incremental_bitmap]\nmax_blocks = 'x'",
            &["max_blocks is \"x\"", "whole number"],
        ),
        ("[plugins]\nx = 1", &["[plugins.incremental_bitmap]"]),
        ("[plugins.incremental_bitmap]\nenable = ", &["line 2"]),
    ] {
        let error = refused(text);
        for word in says {
            assert!(error.contains(word), "{text}: {error} lacks {word:?}");
        }
    }
    let error = |layers: Layers| Config::from(&layers).unwrap_err().to_string();
    let port = error(Layers::default().env([("TD_CONNECT_PORT", "65536")]));
    assert!(
        port.contains("environment: TD_CONNECT_PORT is \"65536\"")
            || port.contains("TD_CONNECT_PORT is 65536"),
        "{port}"
    );
    let flag = error(Layers::default().flag("backup.batch_size", "x"));
    assert!(
        flag.contains("command line: backup.batch_size is \"x\""),
        "{flag}"
    );
    let pair = error(Layers::default().taosx([("memory", "1")]));
    assert!(
        pair.contains("taosX") && pair.contains("memory_limit_mb"),
        "{pair}"
    );
}

#[test]
fn a_password_stands_in_no_file_no_message_and_no_output() {
    let error = refused(r#"{"source": {"password": "s3cret"}}"#);
    assert!(
        error.contains("TD_PASSWORD") && !error.contains("s3cret"),
        "{error}"
    );
    let bad = Layers::default().env([("TD_PASSWORD", "s3c\u{7}ret")]);
    let error = Config::from(&bad).unwrap_err().to_string();
    assert!(!error.contains("s3c"), "{error}");
    let config = Config::from(&Layers::default().env([("TD_PASSWORD", "s3cret")])).unwrap();
    assert_eq!(config.settings.source.password.as_deref(), Some("s3cret"));
    for shown in [config.to_json(), config.to_text(), format!("{config:?}")] {
        assert!(!shown.contains("s3cret"), "{shown}");
    }
    assert!(
        config
            .to_text()
            .contains("source.password = …  (environment, TD_PASSWORD)")
    );
}

#[test]
fn a_file_is_read_by_its_name_and_a_missing_one_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let toml = dir.path().join("taosx.toml");
    fs::write(&toml, "[plugins.incremental_bitmap]\nmax_blocks = 3\n").unwrap();
    let config = Config::from(&Layers::default().file(&toml)).unwrap();
    assert_eq!(config.settings.bitmap_engine.max_blocks, 3);
    let missing = dir.path().join("none.json");
    let error = Config::from(&Layers::default().file(&missing))
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("none.json") && error.contains("--config"),
        "{error}"
    );
    let large = dir.path().join("large.json");
    fs::write(&large, " ".repeat((1 << 20) + 1)).unwrap();
    let error = Config::from(&Layers::default().file(&large))
        .unwrap_err()
        .to_string();
    assert!(error.contains("1 MiB"), "{error}");
}

#[test]
fn a_running_program_takes_what_takes_effect_at_once_and_names_the_rest() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("c.json");
    let write = |batch: u32, buffer: u32| {
        let text = format!(
            r#"{{"backup": {{"batch_size": {batch}}}, "event_interceptor": {{"buffer_size": {buffer}}}}}"#
        );
        fs::write(&path, text).unwrap();
    };
    write(10, 20);
    let live = Live::open(Layers::default().file(&path)).unwrap();
    assert_eq!(
        live.reload_if_changed().unwrap(),
        config::live::Reloaded::default()
    );
    write(11, 2_100);
    let reloaded = live.reload_if_changed().unwrap();
    assert_eq!(reloaded.applied, ["backup.batch_size"]);
    assert_eq!(reloaded.at_restart, ["event_interceptor.buffer_size"]);
    let now = live.current();
    assert_eq!(now.settings.backup.batch_size, 11);
    assert_eq!(now.settings.event_interceptor.buffer_size, 20);

    fs::write(&path, r#"{"backup": {"batch_size": 0}}"#).unwrap();
    let error = live.reload_if_changed().unwrap_err().to_string();
    assert!(error.contains("batch_size is 0"), "{error}");
    assert_eq!(
        live.current(),
        now,
        "a file that can't be used changes nothing"
    );
}

#[test]
fn what_a_program_has_no_use_for_is_named() {
    let text = r#"{"backup": {"batch_size": 5, "compression": false}, "source": {"port": 1}, "log": {"debug": true},
                   "bitmap_engine": {"memory_limit_mb": 5}}"#;
    let config = Config::from(&Layers::default().text(text).env([("TD_DATABASE", "d")])).unwrap();
    assert_eq!(
        config.unused_by(Program::Tool),
        ["bitmap_engine.memory_limit_mb", "backup.batch_size"]
    );
    assert_eq!(
        config.unused_by(Program::Backups),
        ["bitmap_engine.memory_limit_mb"]
    );
    // Not from the environment: that is everybody's.
    assert_eq!(
        config.unused_by(Program::TaosX),
        ["backup.batch_size", "backup.compression", "source.port"]
    );
}

fn number(range: std::ops::RangeInclusive<u32>) -> BoxedStrategy<serde_json::Value> {
    range.prop_map(Into::into).boxed()
}

/// Any right value of a setting, as JSON.
fn right(field: &Field) -> BoxedStrategy<serde_json::Value> {
    let text = "[ -~风\u{e9}]{1,40}";
    match field {
        Field::Flag(_) => any::<bool>().prop_map(Into::into).boxed(),
        Field::Number(range, _) => number(range.clone()),
        Field::Word(words, _) => proptest::sample::select(*words)
            .prop_map(Into::into)
            .boxed(),
        Field::Name(_) | Field::Text(_) | Field::Path(_) => text.prop_map(Into::into).boxed(),
        Field::Paths(_) => proptest::collection::vec(text, 0..4)
            .prop_map(Into::into)
            .boxed(),
    }
}

fn any_file() -> impl Strategy<Value = String> {
    let settings: Vec<_> = TABLE
        .iter()
        .filter(|setting| setting.in_file)
        .map(|setting| proptest::option::of(right(&setting.field)).prop_map(|v| (setting.key, v)))
        .collect();
    settings.prop_map(|values| {
        let mut file = serde_json::json!({"backup": {"key_file": "/k"}});
        for (key, value) in values {
            let (section, name) = key.split_once('.').unwrap();
            if let Some(value) = value {
                file[section][name] = value;
            }
        }
        file.to_string()
    })
}

proptest! {
    #[test]
    fn printed_settings_read_back_are_the_same(text in any_file()) {
        let config = json(&text).unwrap();
        let again = json(&config.to_json()).unwrap();
        prop_assert_eq!(&config.settings, &again.settings);
        prop_assert!(config.differences(&again).is_empty());
    }

    #[test]
    fn any_text_is_understood_or_refused(text in ".{0,200}") {
        for path in ["x.json", "x.toml", "x"] {
            let dir = tempfile::tempdir().unwrap();
            let path: PathBuf = dir.path().join(path);
            fs::write(&path, &text).unwrap();
            if let Err(error) = Config::from(&Layers::default().file(&path)) {
                prop_assert!(error.to_string().len() < 1_000);
            }
        }
    }

    #[test]
    fn a_number_out_of_range_is_refused_whatever_the_setting(
        at in 0..TABLE.len(), number in any::<i64>(),
    ) {
        let setting = &TABLE[at];
        let Field::Number(range, _) = &setting.field else { return Ok(()) };
        let (section, name) = setting.key.split_once('.').unwrap();
        let fits = u32::try_from(number).is_ok_and(|n| range.contains(&n));
        let result = json(&format!(r#"{{"{section}": {{"{name}": {number}}}}}"#));
        prop_assert_eq!(result.is_ok(), fits);
        if let Err(error) = result {
            let error = error.to_string();
            prop_assert!(error.contains(setting.key) && error.contains(&number.to_string()), "{}", error);
        }
    }
}
