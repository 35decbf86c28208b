//! Putting settings together: default, file, environment, flags, each over the one before.

use crate::{
    ConfigError, Settings,
    file::{self, Tree, quoted},
    table::{self, Field, Setting, TABLE},
};
use serde_json::{Map, Value};
use std::{
    collections::BTreeMap,
    fmt,
    path::{Path, PathBuf},
};

/// Where settings come from. Nothing is read before [`Config::from`].
#[derive(Debug, Clone, Default)]
pub struct Layers {
    file: Option<Source>,
    taosx: Vec<(String, String)>,
    /// `None` for a value that is not UTF-8.
    env: Vec<(String, Option<String>)>,
    flags: Vec<(&'static str, String)>,
}

#[derive(Debug, Clone)]
enum Source {
    Path(PathBuf),
    Text(String),
}

impl Layers {
    /// A file: JSON, or TOML with taosX' table.
    pub fn file(mut self, path: impl Into<PathBuf>) -> Self {
        self.file = Some(Source::Path(path.into()));
        self
    }

    /// The text of a file.
    pub fn text(mut self, text: impl Into<String>) -> Self {
        self.file = Some(Source::Text(text.into()));
        self
    }

    /// taosX' settings, by their names in its table.
    pub fn taosx<N: Into<String>, V: Into<String>>(
        mut self,
        pairs: impl IntoIterator<Item = (N, V)>,
    ) -> Self {
        let pairs = pairs.into_iter().map(|(n, v)| (n.into(), v.into()));
        self.taosx.extend(pairs);
        self
    }

    /// Environment variables. Those that belong to no setting are ignored; an empty one counts as not set.
    pub fn env<N: Into<String>, V: Into<String>>(
        mut self,
        variables: impl IntoIterator<Item = (N, V)>,
    ) -> Self {
        let variables = variables.into_iter();
        self.env
            .extend(variables.map(|(n, v)| (n.into(), Some(v.into()))));
        self
    }

    /// The environment of this process.
    pub fn process_env(mut self) -> Self {
        let variables = std::env::vars_os().filter_map(|(name, value)| {
            let name = name.into_string().ok()?;
            Some((name, value.into_string().ok()))
        });
        self.env.extend(variables);
        self
    }

    /// A flag of the command line, by the setting's key.
    pub fn flag(mut self, key: &'static str, value: impl Into<String>) -> Self {
        self.flags.push((key, value.into()));
        self
    }

    /// The file that is read, if there is one.
    pub fn path(&self) -> Option<&Path> {
        match &self.file {
            Some(Source::Path(path)) => Some(path),
            _ => None,
        }
    }
}

/// Where a setting's value comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// No file, variable or flag gives it.
    Default,
    /// The file.
    File,
    /// taosX gave it.
    TaosX,
    /// This environment variable.
    Env(&'static str),
    /// The command line.
    Flag,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File => f.write_str("file"),
            Self::TaosX => f.write_str("taosX"),
            Self::Env(name) => write!(f, "environment, {name}"),
            Self::Flag => f.write_str("command line"),
        }
    }
}

/// Settings, and where each comes from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Config {
    /// The settings.
    pub settings: Settings,
    origins: BTreeMap<&'static str, Origin>,
}

impl Config {
    /// Reads and checks everything. Either all of it takes effect or nothing.
    pub fn from(layers: &Layers) -> Result<Self, ConfigError> {
        let mut config = Self::default();
        let path = layers.path();
        let text = match &layers.file {
            None => None,
            Some(Source::Text(text)) => Some(text.clone()),
            Some(Source::Path(path)) => Some(file::read(path)?),
        };
        let place = path.map_or("configuration".to_owned(), |path| {
            path.display().to_string()
        });
        if let Some(text) = text {
            for found in file::parse(&text, path)? {
                config.set(found.setting, Origin::File, &place, &found.key, found.tree)?;
            }
        }
        for (name, value) in &layers.taosx {
            let setting = table::by_taosx(name).ok_or_else(|| ConfigError::Unknown {
                place: "taosX".to_owned(),
                key: name.escape_debug().to_string(),
                value: quoted(value),
                allowed: file::taosx_names(),
            })?;
            let tree = from_text(setting, value);
            config.set(setting, Origin::TaosX, "taosX", name, tree)?;
        }
        for setting in TABLE {
            for name in setting.env {
                let mut variables = layers.env.iter().rev();
                let found = variables.find(|(n, _)| n == name);
                let Some((_, value)) = found.filter(|(_, value)| value.as_deref() != Some(""))
                else {
                    continue;
                };
                let tree = match value {
                    Some(value) => from_text(setting, value),
                    None => Tree::NotUtf8,
                };
                config.set(setting, Origin::Env(name), "environment", name, tree)?;
                break;
            }
        }
        for (key, value) in &layers.flags {
            let setting = table::by_key(key).ok_or_else(|| ConfigError::Unknown {
                place: "command line".to_owned(),
                key: (*key).to_owned(),
                value: quoted(value),
                allowed: "are the settings of the file".to_owned(),
            })?;
            let tree = match setting.field {
                // Given several times, it is a list.
                Field::Paths(_) => {
                    let all = layers.flags.iter().filter(|(other, _)| other == key);
                    Tree::List(all.map(|(_, value)| Tree::Text(value.clone())).collect())
                }
                _ => from_text(setting, value),
            };
            config.set(setting, Origin::Flag, "command line", key, tree)?;
        }
        config.check(&place)?;
        Ok(config)
    }

    /// Where a setting comes from.
    pub fn origin(&self, key: &str) -> Origin {
        self.origins.get(key).cloned().unwrap_or(Origin::Default)
    }

    fn set(
        &mut self,
        setting: &'static Setting,
        origin: Origin,
        place: &str,
        key: &str,
        tree: Tree,
    ) -> Result<(), ConfigError> {
        if assign(&mut self.settings, &setting.field, &tree).is_none() {
            let shown = match setting.in_file {
                true => tree.to_string(),
                false => "…".to_owned(),
            };
            return Err(ConfigError::Value {
                place: place.to_owned(),
                key: key.to_owned(),
                value: shown,
                allowed: setting.field.allowed(),
            });
        }
        self.origins.insert(setting.key, origin);
        Ok(())
    }

    /// What does not go together.
    fn check(&self, place: &str) -> Result<(), ConfigError> {
        if self.settings.backup.encryption && self.settings.backup.key_file.is_none() {
            return Err(ConfigError::Together {
                place: place.to_owned(),
                problem: "backup.encryption is true and there is no backup.key_file; name the file that holds the \
                          passphrase"
                    .to_owned(),
            });
        }
        Ok(())
    }

    /// The settings as a JSON file, without secrets. Read back, it gives the same settings.
    pub fn to_json(&self) -> String {
        let mut settings = self.settings.clone();
        let mut sections = Map::new();
        for setting in TABLE.iter().filter(|setting| setting.in_file) {
            let (Some((section, name)), Some(value)) = (
                setting.key.split_once('.'),
                value(&mut settings, &setting.field),
            ) else {
                continue;
            };
            let section = sections
                .entry(section)
                .or_insert_with(|| Value::Object(Map::new()));
            if let Value::Object(section) = section {
                section.insert(name.to_owned(), value);
            }
        }
        format!("{:#}\n", Value::Object(sections))
    }

    /// The settings for people: each with its value and where it comes from.
    pub fn to_text(&self) -> String {
        let mut settings = self.settings.clone();
        let line = |setting: &Setting| {
            let value = value(&mut settings, &setting.field);
            let value = match (value, setting.in_file) {
                (None, _) => "not set".to_owned(),
                (Some(_), false) => "…".to_owned(),
                (Some(value), true) => value.to_string(),
            };
            format!(
                "{} = {value}  ({})\n",
                setting.key,
                self.origin(setting.key)
            )
        };
        TABLE.iter().map(line).collect()
    }

    /// Takes these settings over from another configuration.
    pub(crate) fn take_over(&mut self, from: &Self, settings: &[&'static Setting]) {
        let mut source = from.settings.clone();
        for setting in settings {
            copy(&setting.field, &mut source, &mut self.settings);
            self.origins.insert(setting.key, from.origin(setting.key));
        }
    }

    /// The settings that differ.
    pub fn differences(&self, other: &Self) -> Vec<&'static Setting> {
        let (mut a, mut b) = (self.settings.clone(), other.settings.clone());
        TABLE
            .iter()
            .filter(|setting| value(&mut a, &setting.field) != value(&mut b, &setting.field))
            .collect()
    }
}

/// No setting takes a longer text.
const LONGEST: usize = 4_096;

fn plain(text: &str) -> Option<String> {
    let fits = (1..=LONGEST).contains(&text.len()) && !text.chars().any(char::is_control);
    fits.then(|| text.to_owned())
}

/// Sets a field, if the value is one that it takes.
fn assign(settings: &mut Settings, field: &Field, tree: &Tree) -> Option<()> {
    match (field, tree) {
        (Field::Flag(place), Tree::Flag(value)) => *place(settings) = *value,
        (Field::Number(range, place), Tree::Whole(value)) => {
            let number = u32::try_from(*value).ok().filter(|n| range.contains(n))?;
            *place(settings) = number;
        }
        (Field::Word(words, place), Tree::Text(text)) => {
            let word = words.iter().find(|word| **word == text.as_str())?;
            *place(settings) = (*word).to_owned();
        }
        (Field::Name(place), Tree::Text(text)) => *place(settings) = plain(text)?,
        (Field::Text(place), Tree::Text(text)) => *place(settings) = Some(plain(text)?),
        (Field::Path(place), Tree::Text(text)) => *place(settings) = Some(plain(text)?.into()),
        (Field::Paths(place), Tree::List(list)) => {
            let path = |item: &Tree| match item {
                Tree::Text(text) => Some(plain(text)?.into()),
                _ => None,
            };
            *place(settings) = list.iter().map(path).collect::<Option<_>>()?;
        }
        _ => return None,
    }
    Some(())
}

fn copy(field: &Field, from: &mut Settings, to: &mut Settings) {
    match field {
        Field::Flag(place) => *place(to) = *place(from),
        Field::Number(_, place) => *place(to) = *place(from),
        Field::Word(_, place) | Field::Name(place) => *place(to) = place(from).clone(),
        Field::Text(place) => *place(to) = place(from).clone(),
        Field::Path(place) => *place(to) = place(from).clone(),
        Field::Paths(place) => *place(to) = place(from).clone(),
    }
}

/// A field's value as JSON; `None` if it is not set.
fn value(settings: &mut Settings, field: &Field) -> Option<Value> {
    let path = |path: &Path| Value::from(path.to_string_lossy().into_owned());
    Some(match field {
        Field::Flag(place) => (*place(settings)).into(),
        Field::Number(_, place) => (*place(settings)).into(),
        Field::Word(_, place) | Field::Name(place) => place(settings).clone().into(),
        Field::Text(place) => place(settings).clone()?.into(),
        Field::Path(place) => path(place(settings).as_deref()?),
        Field::Paths(place) => place(settings).iter().map(|p| path(p)).collect(),
    })
}

/// A text, as the environment, flags and taosX give it, as the type of its setting. A text that is no value of that
/// type stays a text and is refused later.
fn from_text(setting: &Setting, text: &str) -> Tree {
    let as_text = || Tree::Text(text.to_owned());
    match &setting.field {
        Field::Flag(_) => match text.to_ascii_lowercase().as_str() {
            "true" | "1" | "yes" | "on" => Tree::Flag(true),
            "false" | "0" | "no" | "off" => Tree::Flag(false),
            _ => as_text(),
        },
        Field::Number(..) => text.parse().map_or_else(|_| as_text(), Tree::Whole),
        Field::Paths(_) => Tree::List(vec![as_text()]),
        _ => as_text(),
    }
}
