//! Files of settings: JSON by sections, or TOML with taosX' table `[plugins.incremental_bitmap]`.
//!
//! Which of the two a file is, its name says (`.toml`), else its first character (`{` begins JSON).

use crate::{
    ConfigError,
    table::{self, Setting, TABLE},
};
use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, SeqAccess, Visitor},
};
use std::{
    fmt,
    fs::File,
    io::Read as _,
    path::{Path, PathBuf},
};

/// Longer files are not ours.
const LONGEST: u64 = 1 << 20;

/// A value as it stands in a file, whatever its language. Keys that stand twice stay so.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Tree {
    Null,
    Flag(bool),
    Whole(i128),
    Fraction(f64),
    Text(String),
    List(Vec<Tree>),
    Section(Vec<(String, Tree)>),
    /// Only from the environment.
    NotUtf8,
}

struct TreeVisitor;

impl<'de> Visitor<'de> for TreeVisitor {
    type Value = Tree;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Tree, E> {
        Ok(Tree::Flag(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Tree, E> {
        Ok(Tree::Whole(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Tree, E> {
        Ok(Tree::Whole(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Tree, E> {
        Ok(Tree::Fraction(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<Tree, E> {
        Ok(Tree::Text(value.to_owned()))
    }

    fn visit_unit<E>(self) -> Result<Tree, E> {
        Ok(Tree::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Tree, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = seq.next_element()? {
            list.push(item);
        }
        Ok(Tree::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Tree, A::Error> {
        let mut section = Vec::new();
        while let Some(entry) = map.next_entry()? {
            section.push(entry);
        }
        Ok(Tree::Section(section))
    }
}

impl<'de> Deserialize<'de> for Tree {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TreeVisitor)
    }
}

/// As in a message: short, and on one line.
impl fmt::Display for Tree {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => f.write_str("null"),
            Self::Flag(value) => write!(f, "{value}"),
            Self::Whole(value) => write!(f, "{value}"),
            Self::Fraction(value) => write!(f, "{value:?}"),
            Self::Text(text) => write!(f, "{}", quoted(text)),
            Self::List(list) => write!(f, "a list of {}", list.len()),
            Self::Section(section) => write!(f, "a section of {}", section.len()),
            Self::NotUtf8 => f.write_str("not UTF-8"),
        }
    }
}

/// Texts are shown up to this length.
const SHOWN: usize = 60;

pub(crate) fn quoted(text: &str) -> String {
    match text.char_indices().nth(SHOWN) {
        None => format!("{text:?}"),
        Some((end, _)) => format!("{:?}…", text.get(..end).unwrap_or_default()),
    }
}

/// Reads a file; no file here is longer than 1 MiB.
pub(crate) fn read(path: &Path) -> Result<String, ConfigError> {
    let mut text = String::new();
    let file = File::open(path).map_err(ConfigError::io(path))?;
    file.take(LONGEST + 1)
        .read_to_string(&mut text)
        .map_err(ConfigError::io(path))?;
    if text.len() as u64 > LONGEST {
        return Err(ConfigError::Syntax {
            place: path.display().to_string(),
            problem: "it is longer than 1 MiB, so it is no configuration".to_owned(),
        });
    }
    Ok(text)
}

/// A value that stands in a file.
pub(crate) struct Found {
    pub(crate) setting: &'static Setting,
    /// Its key as it stands in the file.
    pub(crate) key: String,
    pub(crate) tree: Tree,
}

/// The values that stand in a file.
pub(crate) fn parse(text: &str, path: Option<&Path>) -> Result<Vec<Found>, ConfigError> {
    let place = path.map_or("configuration".to_owned(), |path| {
        path.display().to_string()
    });
    let reader = Reader { place: &place };
    let syntax = |problem: String| ConfigError::Syntax {
        place: place.clone(),
        problem,
    };
    if is_toml(text, path) {
        let tree = toml::from_str(text).map_err(|error| {
            let before = error.span().and_then(|span| text.get(..span.start));
            let line = before.map_or(1, |before| before.matches('\n').count() + 1);
            syntax(format!("line {line}: {}", error.message()))
        })?;
        reader.taosx(tree)
    } else {
        reader.json(serde_json::from_str(text).map_err(|error| syntax(error.to_string()))?)
    }
}

fn is_toml(text: &str, path: Option<&Path>) -> bool {
    match path.and_then(Path::extension).and_then(|end| end.to_str()) {
        Some("toml") => true,
        Some("json") => false,
        _ => !text.trim_start().starts_with('{'),
    }
}

struct Reader<'a> {
    place: &'a str,
}

impl Reader<'_> {
    fn section(&self, key: &str, tree: Tree) -> Result<Vec<(String, Tree)>, ConfigError> {
        let section = match tree {
            Tree::Section(section) => section,
            other => {
                return Err(ConfigError::Value {
                    place: self.place.to_owned(),
                    key: key.to_owned(),
                    value: other.to_string(),
                    allowed: "a section (an object of settings)".to_owned(),
                });
            }
        };
        for (number, (name, _)) in section.iter().enumerate() {
            if section.iter().take(number).any(|(other, _)| other == name) {
                return Err(ConfigError::Twice {
                    place: self.place.to_owned(),
                    key: match key {
                        "" => name.clone(),
                        key => format!("{key}.{name}"),
                    },
                });
            }
        }
        Ok(section)
    }

    fn unknown(&self, key: String, value: &Tree, allowed: String) -> ConfigError {
        ConfigError::Unknown {
            place: self.place.to_owned(),
            key: key.escape_debug().to_string(),
            value: value.to_string(),
            allowed,
        }
    }

    fn json(&self, tree: Tree) -> Result<Vec<Found>, ConfigError> {
        let mut found = Vec::new();
        for (section, tree) in self.section("the file", tree)? {
            let names: Vec<&str> = TABLE
                .iter()
                .filter(|setting| setting.in_file)
                .filter_map(|setting| setting.key.strip_prefix(&section)?.strip_prefix('.'))
                .collect();
            if names.is_empty() {
                let mut sections: Vec<&str> = TABLE
                    .iter()
                    .filter_map(|setting| Some(setting.key.split_once('.')?.0))
                    .collect();
                sections.dedup();
                let allowed = format!("are the sections {}", sections.join(", "));
                return Err(self.unknown(section, &tree, allowed));
            }
            for (name, tree) in self.section(&section, tree)? {
                let key = format!("{section}.{name}");
                match table::by_key(&key) {
                    Some(setting) if setting.in_file => found.push(Found { setting, key, tree }),
                    Some(setting) => {
                        let allowed = format!(
                            "is only the environment ({}), so that it stands in no file",
                            setting.env.join(", ")
                        );
                        return Err(self.unknown(key, &Tree::Text("…".to_owned()), allowed));
                    }
                    None => {
                        let allowed = format!("in {section} are {}", names.join(", "));
                        return Err(self.unknown(key, &tree, allowed));
                    }
                }
            }
        }
        Ok(found)
    }

    /// taosX' own settings stand in the same file and are ignored.
    fn taosx(&self, tree: Tree) -> Result<Vec<Found>, ConfigError> {
        let table = |tree: Tree, wanted: &str| match tree {
            Tree::Section(section) => section
                .into_iter()
                .find_map(|(name, tree)| (name == wanted).then_some(tree)),
            _ => None,
        };
        let ours = table(tree, "plugins").and_then(|tree| table(tree, "incremental_bitmap"));
        let Some(ours) = ours else {
            return Err(ConfigError::Syntax {
                place: self.place.to_owned(),
                problem: "it has no table [plugins.incremental_bitmap]".to_owned(),
            });
        };
        let mut found = Vec::new();
        for (key, tree) in self.section("plugins.incremental_bitmap", ours)? {
            match table::by_taosx(&key) {
                Some(setting) => found.push(Found { setting, key, tree }),
                None => return Err(self.unknown(key, &tree, taosx_names())),
            }
        }
        Ok(found)
    }
}

pub(crate) fn taosx_names() -> String {
    let names: Vec<&str> = TABLE.iter().filter_map(|setting| setting.taosx).collect();
    format!("in [plugins.incremental_bitmap] are {}", names.join(", "))
}

/// The path of the file to read: the flag's, else what `TDENGINE_CONFIG_PATH` says.
pub fn path(flag: Option<PathBuf>) -> Option<PathBuf> {
    flag.or_else(|| {
        std::env::var_os("TDENGINE_CONFIG_PATH")
            .filter(|path| !path.is_empty())
            .map(PathBuf::from)
    })
}
