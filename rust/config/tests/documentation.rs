//! docs/configuration.md lists the settings that there are. `UPDATE_DOCS=1 cargo test -p config` writes the list anew.

#![allow(clippy::unwrap_used)]

use config::{Config, Layers, Program, table::TABLE};
use std::{fmt::Write as _, fs, path::Path};

const BEGIN: &str = "<!-- from rust/config/src/table.rs -->\n";
const END: &str = "<!-- end -->\n";

fn list() -> String {
    let defaults: serde_json::Value =
        serde_json::from_str(&Config::from(&Layers::default()).unwrap().to_json()).unwrap();
    let mut text = "| key | taosX | environment | allowed | default | live | read by | meaning |\n|---|---|---|---|---|---|---|---|\n".to_owned();
    for setting in TABLE {
        let (section, name) = setting.key.split_once('.').unwrap();
        let code = |text: &str| format!("`{text}`");
        let env: Vec<String> = setting.env.iter().map(|name| code(name)).collect();
        let default = match &defaults[section][name] {
            serde_json::Value::Null => String::new(),
            value => code(&value.to_string()),
        };
        let readers = Program::ALL.into_iter().filter(|p| p.uses(setting.key));
        let readers: Vec<&str> = readers.map(Program::short).collect();
        assert!(!readers.is_empty(), "nobody reads {}", setting.key);
        writeln!(
            text,
            "| `{}` | {} | {} | {} | {default} | {} | {} | {} |",
            setting.key,
            setting.taosx.map(code).unwrap_or_default(),
            env.join(", "),
            setting.field.allowed(),
            if setting.live { "yes" } else { "" },
            readers.join(", "),
            setting.about,
        )
        .unwrap();
    }
    text
}

#[test]
fn the_documented_settings_are_those_there_are() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/configuration.md");
    let page = fs::read_to_string(&path).unwrap();
    let (before, rest) = page.split_once(BEGIN).unwrap();
    let (found, after) = rest.split_once(END).unwrap();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(&path, format!("{before}{BEGIN}{}{END}{after}", list())).unwrap();
    } else {
        assert_eq!(found, list(), "run UPDATE_DOCS=1 cargo test -p config");
    }
}
