#![no_main]
//! A file of settings, as JSON and as TOML: understood or refused, and what is understood reads back the same.
use config::{Config, Layers};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    if let Ok(config) = Config::from(&Layers::default().text(text)) {
        let again = Config::from(&Layers::default().text(config.to_json()));
        assert_eq!(
            again.map(|again| again.settings).ok(),
            Some(config.settings)
        );
    }
    if let Some((name, value)) = text.split_once('=') {
        let _ = Config::from(&Layers::default().taosx([(name, value)]));
    }
});
