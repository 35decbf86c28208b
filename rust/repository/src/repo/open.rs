//! A repository that is made or opened.

use super::{
    ObjectId, RepoError,
    chunks::{Cipher, random},
    config::{CONFIG, Config, Encryption, to_bytes},
    keys::{self, KeyInfo, Recipient, Secret},
};
use std::sync::Arc;
use store::{Created, Store};

/// A repository whose key is known, if it is encrypted.
#[derive(Debug, Clone)]
pub struct Repository {
    pub(super) store: Arc<dyn Store>,
    config: Config,
    /// The bytes of the object `config`, which keys are bound to.
    config_bytes: Arc<[u8]>,
    pub(super) cipher: Cipher,
    opened_by: Option<ObjectId>,
}

const README: &str = "README";

/// What lies in the place, for whoever finds it.
const WHAT_THIS_IS: &str = "\
This is a repository of TDengine backups, written by taosbackup. Do not change, rename or remove anything here by hand:
`taosbackup list`, `verify`, `forget` and `prune` do what is to be done. If its object \"config\" says that it is
encrypted, nothing can be read without one of the keys that it was made for. docs/repository-format.md of the program
describes every object.
";

/// What is written and removed to see whether the place can commit.
const PROBE: &str = "probe";

impl Repository {
    /// Makes a repository in an empty place; with recipients, an encrypted one. Of two that do this at a time one wins.
    ///
    /// # Errors
    /// There is one already, the place holds something else, or it can't commit.
    pub fn init(store: Arc<dyn Store>, recipients: &[Recipient]) -> Result<Self, RepoError> {
        let place = || store.place("");
        if store.holds(CONFIG)? {
            return Err(RepoError::Exists { place: place() });
        }
        // A try that was cut off leaves these, and they are written again.
        let is_ours = |name: &str| {
            name == README || name == PROBE || name.starts_with("keys/") || name.ends_with(".tmp")
        };
        let mut other = None;
        store.list("", &mut |found| {
            if !is_ours(&found.name) {
                other = Some(found.name);
            }
            Ok(())
        })?;
        if let Some(found) = other {
            return Err(RepoError::NotEmpty {
                place: place(),
                found,
            });
        }
        // The name is random, as two may look at the same time.
        if !store::can_commit(&*store, &format!("{PROBE}-{}", ObjectId::random()))? {
            return Err(RepoError::CanNotCommit { place: place() });
        }
        let encryption = match recipients.is_empty() {
            true => Encryption::None,
            false => Encryption::ChaCha20Poly1305,
        };
        let config = Config::new(encryption);
        let bytes = to_bytes(&config)?;
        let mut cipher = Cipher(None);
        let mut opened_by = None;
        let mut made = Vec::new();
        if !recipients.is_empty() {
            let key = random::<32>()?;
            for recipient in recipients {
                made.push(keys::add(&*store, &key, &bytes, recipient)?);
            }
            opened_by = made.first().cloned();
            cipher = Cipher(Some(key));
        }
        store.put(README, WHAT_THIS_IS.as_bytes())?;
        // With it the place is a repository.
        if store.put_new(CONFIG, &bytes)? == Created::AlreadyThere {
            for id in made {
                keys::remove(&*store, &id)?;
            }
            return Err(RepoError::Exists { place: place() });
        }
        Ok(Self {
            store,
            config,
            config_bytes: bytes.into(),
            cipher,
            opened_by,
        })
    }

    /// Opens a repository. Nothing but `config` and keys is read.
    ///
    /// # Errors
    /// There is none, it is of a newer format, or the secret does not fit it.
    pub fn open(store: Arc<dyn Store>, secret: Option<&Secret>) -> Result<Self, RepoError> {
        let (config, bytes) = Config::load(&*store)?;
        let place = || store.place("");
        let (cipher, opened_by) = match (config.encryption, secret) {
            (Encryption::None, None) => (Cipher(None), None),
            (Encryption::None, Some(_)) => return Err(RepoError::NotEncrypted { place: place() }),
            (Encryption::ChaCha20Poly1305, None) => {
                return Err(RepoError::NoKey { place: place() });
            }
            (Encryption::ChaCha20Poly1305, Some(secret)) => {
                let (key, id) = keys::open(&*store, &bytes, secret)?;
                (Cipher(Some(key)), Some(id))
            }
        };
        Ok(Self {
            store,
            config,
            config_bytes: bytes.into(),
            cipher,
            opened_by,
        })
    }

    /// Where it is, for messages.
    pub fn place(&self) -> String {
        self.store.place("")
    }

    /// Its id.
    pub fn id(&self) -> &ObjectId {
        &self.config.id
    }

    /// When it was made, RFC 3339.
    pub fn created(&self) -> &str {
        &self.config.created
    }

    /// Whether it is encrypted.
    pub fn is_encrypted(&self) -> bool {
        self.cipher.0.is_some()
    }

    /// Its keys, the oldest first.
    ///
    /// # Errors
    /// They can't be read.
    pub fn keys(&self) -> Result<Vec<KeyInfo>, RepoError> {
        keys::infos(&*self.store, self.opened_by.as_ref())
    }

    /// Lets one more recipient read it.
    ///
    /// # Errors
    /// It is not encrypted, or the key can't be written.
    pub fn add_key(&self, recipient: &Recipient) -> Result<ObjectId, RepoError> {
        match &self.cipher.0 {
            Some(key) => keys::add(&*self.store, key, &self.config_bytes, recipient),
            None => Err(RepoError::Refused(format!(
                "{} is not encrypted, and so has no keys; make an encrypted repository and copy the snapshots there",
                self.place()
            ))),
        }
    }

    /// Removes a key, but never the last one.
    ///
    /// # Errors
    /// There is none of this id, it is the last one, or it can't be removed.
    pub fn remove_key(&self, id: &str) -> Result<KeyInfo, RepoError> {
        let keys = self.keys()?;
        let found: Vec<&KeyInfo> = keys
            .iter()
            .filter(|key| !id.is_empty() && key.id.as_str().starts_with(id))
            .collect();
        match found.as_slice() {
            [] => Err(RepoError::Unknown {
                place: self.place(),
                what: format!("key {id:?}"),
            }),
            [_] if keys.len() == 1 => Err(RepoError::Refused(format!(
                "key {id} is the last one: without it nobody could read {} any more; add another one first",
                self.place()
            ))),
            [key] => {
                keys::remove(&*self.store, &key.id)?;
                Ok((*key).clone())
            }
            several => Err(RepoError::Ambiguous {
                what: format!("key {id}"),
                found: several
                    .iter()
                    .map(|key| key.id.short())
                    .collect::<Vec<_>>()
                    .join(", "),
            }),
        }
    }

    /// Puts another passphrase in the place of the one that opened the repository.
    ///
    /// # Errors
    /// It was not opened by a passphrase, or the keys can't be written.
    pub fn change_passphrase(&self, new: &Recipient) -> Result<ObjectId, RepoError> {
        let keys = self.keys()?;
        let current = keys
            .iter()
            .find(|key| key.current && key.kind == keys::KeyKind::Passphrase);
        let Some(current) = current else {
            return Err(RepoError::Refused(format!(
                "{} was not opened by a passphrase, so there is none to be changed; use key add and key remove",
                self.place()
            )));
        };
        let id = self.add_key(new)?;
        keys::remove(&*self.store, &current.id)?;
        Ok(id)
    }
}
