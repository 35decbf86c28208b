//! Who can read a repository, and how its key is wrapped for each: the objects `keys/ID`.
//!
//! Such an object is sealed JSON. Its `wrapped` is an [age](https://age-encryption.org/v1) file in hexadecimal digits, for a
//! passphrase or for an age identity, and holds JSON again: the key, and the SHA-256 of the object `config`, so that neither
//! can be exchanged alone. Recipients come and go without any other object being written again.

use super::{
    ObjectId, RepoError,
    config::{FORMAT, get_small, parse, to_bytes},
};
use age::secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use std::{
    fmt,
    io::{Read as _, Write as _},
    str::FromStr as _,
};
use store::{Created, Store, StoreError, hex};

/// The cost of a guess at a passphrase: 2^16 rounds of scrypt, 64 MiB.
const WORK: u8 = 16;

/// A header that asks for more was not written here: it would only cost time and memory.
const MOST_WORK: u8 = 18;

/// No passphrase is shorter.
const SHORTEST: usize = 8;

/// A repository has no more keys, and no more are tried.
const MOST_KEYS: usize = 100;

const KEYS: &str = "keys";

/// What a repository is read with. Never shown.
#[derive(Clone)]
pub enum Secret {
    /// A passphrase.
    Passphrase(SecretString),
    /// Identities of age.
    Identities(Vec<age::x25519::Identity>),
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

impl Secret {
    /// A passphrase: the first line of a text.
    ///
    /// # Errors
    /// It is too short. The error never shows it.
    pub fn passphrase(text: &str) -> Result<Self, RepoError> {
        match text.lines().next().map(str::trim_end) {
            Some(line) if line.chars().count() >= SHORTEST => {
                Ok(Self::Passphrase(SecretString::from(line.to_owned())))
            }
            _ => Err(RepoError::Key(format!(
                "the passphrase has less than {SHORTEST} characters; it stands on the first line, give a longer one"
            ))),
        }
    }

    /// Identities of age, each on a line of its own, as `age-keygen` writes them.
    ///
    /// # Errors
    /// There is none, or one is damaged.
    pub fn identities(text: &str) -> Result<Self, RepoError> {
        let lines = text.lines().map(str::trim);
        let identities: Result<Vec<_>, _> = lines
            .filter(|line| line.starts_with("AGE-SECRET-KEY-"))
            .map(age::x25519::Identity::from_str)
            .collect();
        match identities {
            Ok(identities) if !identities.is_empty() => Ok(Self::Identities(identities)),
            Ok(_) => Err(RepoError::Key(
                "there is no age identity in it: no line begins with AGE-SECRET-KEY-1; make one by age-keygen".to_owned(),
            )),
            Err(_) => Err(RepoError::Key("it holds a damaged age identity".to_owned())),
        }
    }

    /// Either of both, by what the text looks like.
    ///
    /// # Errors
    /// It is neither.
    pub fn of_text(text: &str) -> Result<Self, RepoError> {
        match text.contains("AGE-SECRET-KEY-") {
            true => Self::identities(text),
            false => Self::passphrase(text),
        }
    }

    /// Who can read what is wrapped for this.
    pub fn recipients(&self) -> Vec<Recipient> {
        match self {
            Self::Passphrase(passphrase) => vec![Recipient::Passphrase(passphrase.clone())],
            Self::Identities(all) => all
                .iter()
                .map(|identity| Recipient::Age(identity.to_public()))
                .collect(),
        }
    }
}

/// For whom a repository's key is wrapped.
#[derive(Clone)]
pub enum Recipient {
    /// Whoever knows a passphrase.
    Passphrase(SecretString),
    /// Whoever has the identity.
    Age(age::x25519::Recipient),
}

impl fmt::Debug for Recipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Passphrase(_) => f.write_str("Passphrase(…)"),
            Self::Age(recipient) => write!(f, "Age({recipient})"),
        }
    }
}

impl Recipient {
    /// An age recipient, `age1…`.
    ///
    /// # Errors
    /// It is none.
    pub fn age(text: &str) -> Result<Self, RepoError> {
        match age::x25519::Recipient::from_str(text.trim()) {
            Ok(recipient) => Ok(Self::Age(recipient)),
            Err(error) => Err(RepoError::Key(format!(
                "{text:?} is no age recipient ({error}); it begins with age1, and age-keygen writes it beside the identity"
            ))),
        }
    }
}

/// The object of a key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct KeyObject {
    format: u32,
    id: ObjectId,
    kind: KeyKind,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    recipient: Option<String>,
    created: String,
    wrapped: String,
}

/// For what kind of recipient a key is wrapped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum KeyKind {
    /// A passphrase.
    Passphrase,
    /// An age identity.
    Age,
}

/// What is wrapped.
#[derive(Serialize, Deserialize)]
struct Wrapped {
    format: u32,
    key: String,
    config_sha256: String,
}

/// A key of a repository, as far as anybody can see.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct KeyInfo {
    /// Its id.
    pub id: ObjectId,
    /// What opens it.
    pub kind: KeyKind,
    /// The age recipient, if it is for one.
    pub recipient: Option<String>,
    /// When it was made, RFC 3339.
    pub created: String,
    /// Whether it is the one that opened the repository.
    pub current: bool,
}

fn name(id: &ObjectId) -> String {
    format!("{KEYS}/{id}")
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits = text.as_bytes().chunks(2);
    digits
        .map(|pair| {
            let pair = std::str::from_utf8(pair)
                .ok()
                .filter(|pair| pair.len() == 2)?;
            u8::from_str_radix(pair, 16).ok()
        })
        .collect()
}

/// Wraps a repository's key for a recipient, and writes the object.
pub(super) fn add(
    store: &dyn Store,
    key: &[u8; 32],
    config: &[u8],
    recipient: &Recipient,
) -> Result<ObjectId, RepoError> {
    let refused =
        |problem: &dyn fmt::Display| RepoError::Key(format!("the key can't be wrapped: {problem}"));
    let wrapped = to_bytes(&Wrapped {
        format: FORMAT,
        key: hex(key),
        config_sha256: hex(&Sha256::digest(config)),
    })?;
    let (to, kind, shown): (Box<dyn age::Recipient>, _, _) = match recipient {
        Recipient::Passphrase(passphrase) => {
            let mut recipient = age::scrypt::Recipient::new(passphrase.clone());
            recipient.set_work_factor(WORK);
            (Box::new(recipient), KeyKind::Passphrase, None)
        }
        Recipient::Age(recipient) => (
            Box::new(recipient.clone()),
            KeyKind::Age,
            Some(recipient.to_string()),
        ),
    };
    let encryptor = age::Encryptor::with_recipients(std::iter::once(to.as_ref()))
        .map_err(|error| refused(&error))?;
    let mut file = Vec::new();
    let write = || {
        let mut writer = encryptor.wrap_output(&mut file)?;
        writer.write_all(&wrapped)?;
        writer.finish().map(drop)
    };
    write().map_err(|error| refused(&error))?;
    let id = ObjectId::random();
    let object = KeyObject {
        format: FORMAT,
        id: id.clone(),
        kind,
        recipient: shown,
        created: jiff::Timestamp::now().to_string(),
        wrapped: hex(&file),
    };
    match store.put_new(&name(&id), &to_bytes(&object)?)? {
        Created::Written => Ok(id),
        Created::AlreadyThere => Err(refused(&"its random id is taken; try again")),
    }
}

/// All keys, the oldest first.
fn all(store: &dyn Store) -> Result<Vec<KeyObject>, RepoError> {
    let mut names = Vec::new();
    store.list(KEYS, &mut |found| {
        // What a killed writer left in a directory is no key.
        if found.name.len() == KEYS.len() + 33 {
            names.push(found.name);
        }
        Ok(())
    })?;
    let mut keys = Vec::new();
    for name in names.iter().take(MOST_KEYS) {
        let key: KeyObject = match get_small(store, name) {
            // Removed since it was listed.
            Err(RepoError::Store(error)) if error.is_not_found() => continue,
            bytes => parse(store, name, &bytes?)?,
        };
        if *name != self::name(&key.id) {
            return Err(RepoError::Damaged {
                place: store.place(name),
                problem: format!("it is key {}", key.id),
            });
        }
        keys.push(key);
    }
    keys.sort_by(|a, b| (&a.created, &a.id).cmp(&(&b.created, &b.id)));
    Ok(keys)
}

/// What can be seen of the keys without one.
pub(super) fn infos(
    store: &dyn Store,
    current: Option<&ObjectId>,
) -> Result<Vec<KeyInfo>, RepoError> {
    let info = |key: KeyObject| KeyInfo {
        current: Some(&key.id) == current,
        id: key.id,
        kind: key.kind,
        recipient: key.recipient,
        created: key.created,
    };
    Ok(all(store)?.into_iter().map(info).collect())
}

/// Removes a key. What it could read, whoever has a copy of the key can read on.
pub(super) fn remove(store: &dyn Store, id: &ObjectId) -> Result<(), RepoError> {
    Ok(store.remove(&name(id))?)
}

/// The repository's key, and which of its keys opened it.
pub(super) fn open(
    store: &dyn Store,
    config: &[u8],
    secret: &Secret,
) -> Result<([u8; 32], ObjectId), RepoError> {
    let keys = all(store)?;
    let mut unusable = None;
    for key in &keys {
        let fits = match (secret, key.kind) {
            (Secret::Passphrase(_), KeyKind::Passphrase) => true,
            (Secret::Identities(all), KeyKind::Age) => {
                key.recipient.as_ref().is_none_or(|recipient| {
                    all.iter()
                        .any(|identity| identity.to_public().to_string() == *recipient)
                })
            }
            _ => false,
        };
        if !fits {
            continue;
        }
        match unwrap(store, key, config, secret) {
            Ok(Some(opened)) => return Ok((opened, key.id.clone())),
            Ok(None) => {}
            // Another key may be as it was written: one that is not, an init that was cut off may have left.
            Err(error) => unusable = Some(error),
        }
    }
    if let Some(error) = unusable {
        return Err(error);
    }
    Err(RepoError::WrongKey {
        place: store.place(""),
        keys: keys.len(),
    })
}

fn unwrap(
    store: &dyn Store,
    key: &KeyObject,
    config: &[u8],
    secret: &Secret,
) -> Result<Option<[u8; 32]>, RepoError> {
    let place = store.place(&name(&key.id));
    let damaged = |problem: &str| RepoError::Damaged {
        place: place.clone(),
        problem: problem.to_owned(),
    };
    let file =
        unhex(&key.wrapped).ok_or_else(|| damaged("what is wrapped is no hexadecimal digits"))?;
    let identities: Vec<Box<dyn age::Identity>> = match secret {
        Secret::Passphrase(passphrase) => {
            let mut identity = age::scrypt::Identity::new(passphrase.clone());
            identity.set_max_work_factor(MOST_WORK);
            vec![Box::new(identity)]
        }
        Secret::Identities(all) => all
            .iter()
            .map(|identity| Box::new(identity.clone()) as _)
            .collect(),
    };
    let decryptor = age::Decryptor::new(file.as_slice())
        .map_err(|error| damaged(&format!("what is wrapped has no header of age: {error}")))?;
    let mut reader = match decryptor.decrypt(identities.iter().map(|identity| identity.as_ref())) {
        Ok(reader) => reader,
        Err(age::DecryptError::NoMatchingKeys | age::DecryptError::DecryptionFailed) => {
            return Ok(None);
        }
        Err(error) => return Err(damaged(&format!("it can't be unwrapped: {error}"))),
    };
    let mut bytes = Vec::new();
    let read = reader.read_to_end(&mut bytes);
    read.map_err(StoreError::io(place.clone()))?;
    let wrapped: Wrapped = parse(store, &name(&key.id), &bytes)?;
    if wrapped.config_sha256 != hex(&Sha256::digest(config)) {
        return Err(damaged(
            "it belongs to another repository, or the object \"config\" was changed",
        ));
    }
    let key = SecretString::from(wrapped.key);
    let key = unhex(key.expose_secret()).and_then(|key| key.try_into().ok());
    key.map(Some)
        .ok_or_else(|| damaged("the key has not 32 bytes"))
}
