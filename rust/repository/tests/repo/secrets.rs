//! Who can read a repository.

use super::*;

#[test]
fn nothing_readable_is_outside_of_an_encrypted_repository() {
    let room = Room::new(true);
    let notes = Notes {
        host: "hosthosthost".to_owned(),
        labels: [("reason".to_owned(), "upgradeupgrade".to_owned())].into(),
    };
    for link in room.chain.links() {
        import::link(&room.repository, &open_link(&link), &notes, &()).unwrap();
    }
    let found = |root: &Path, what: &str| {
        let store = place(root);
        let names = store.names().unwrap();
        names.iter().any(|name| {
            let bytes = store.get(name).unwrap();
            name.contains(what)
                || bytes
                    .windows(what.len())
                    .any(|part| part == what.as_bytes())
        })
    };
    let secrets = [
        "hosthosthost",
        "upgradeupgrade",
        "manifest",
        "dbs.sql",
        "CREATE",
        "parquet",
        "avro",
        "\"db\"",
        "cluster",
        "watermark",
        "AGE-SECRET-KEY",
    ];
    for secret in secrets {
        assert!(!found(&room.root(), secret), "{secret}");
    }
    // The search finds what is there.
    let plain = Room::new(false);
    plain.take_all();
    for text in ["avro", "\"db\"", "watermark"] {
        assert!(found(&plain.root(), text), "{text}");
    }
}

#[test]
fn a_wrong_or_missing_key_is_an_error_before_anything_is_read() {
    let room = Room::new(true);
    room.take_all();
    // Nothing but the configuration and keys is there to be read.
    for folder in ["links", "snapshots"] {
        fs::remove_dir_all(room.root().join(folder)).unwrap();
    }
    let open = |secret: Option<&Secret>| Repository::open(place(&room.root()), secret);
    assert!(matches!(open(None), Err(RepoError::NoKey { .. })));
    let other = "AGE-SECRET-KEY-1QYQSZQGPQYQSZQGPQYQSZQGPQYQSZQGPQYQSZQGPQYQSZQGPQYQS8S8TAA";
    for wrong in [
        Secret::passphrase("not the passphrase").ok(),
        Secret::identities(other).ok(),
    ] {
        let Some(wrong) = wrong else {
            continue;
        };
        let error = open(Some(&wrong)).unwrap_err();
        assert!(matches!(error, RepoError::WrongKey { .. }), "{error}");
    }
    open(Some(&secret())).unwrap();
    let plain = Room::new(false);
    let error = Repository::open(place(&plain.root()), Some(&secret())).unwrap_err();
    assert!(matches!(error, RepoError::NotEncrypted { .. }), "{error}");
}

#[test]
fn recipients_come_and_go_and_no_data_is_written_again() {
    let room = Room::new(true);
    room.take_all();
    let data = |room: &Room| -> Vec<(String, Vec<u8>)> {
        let names = room
            .objects()
            .into_iter()
            .filter(|name| !name.starts_with("keys/"));
        names
            .map(|name| (name.clone(), fs::read(room.root().join(&name)).unwrap()))
            .collect()
    };
    let before = data(&room);
    let passphrase = Secret::passphrase("correct horse battery").unwrap();
    let [recipient]: [Recipient; 1] = passphrase.recipients().try_into().unwrap();
    let added = room.repository.add_key(&recipient).unwrap();
    let reopened = Repository::open(place(&room.root()), Some(&passphrase)).unwrap();
    assert_eq!(reopened.snapshots().unwrap().listed().count(), 3);
    let keys = reopened.keys().unwrap();
    assert_eq!(keys.len(), 2);
    assert_eq!(keys.iter().find(|key| key.current).unwrap().id, added);
    // The passphrase is changed, and the first identity removed.
    let new = Secret::passphrase("a new passphrase").unwrap();
    reopened.change_passphrase(&new.recipients()[0]).unwrap();
    let old = keys.iter().find(|key| !key.current).unwrap();
    reopened.remove_key(old.id.short()).unwrap();
    for gone in [&passphrase, &secret()] {
        let error = Repository::open(place(&room.root()), Some(gone)).unwrap_err();
        assert!(matches!(error, RepoError::WrongKey { .. }), "{error}");
    }
    let reopened = Repository::open(place(&room.root()), Some(&new)).unwrap();
    let last = reopened.keys().unwrap()[0].id.clone();
    let refused = reopened.remove_key(last.as_str()).unwrap_err().to_string();
    assert!(refused.contains("the last one"), "{refused}");
    assert_eq!(data(&room), before);
}

#[test]
fn a_changed_config_or_a_key_of_another_repository_is_refused() {
    let room = Room::new(true);
    let other = Room::new(true);
    let config = fs::read(room.root().join("config")).unwrap();
    // The other repository's key under this one's configuration.
    fs::write(other.root().join("config"), &config).unwrap();
    let error = Repository::open(place(&other.root()), Some(&secret())).unwrap_err();
    assert!(matches!(error, RepoError::Damaged { .. }), "{error}");
    // Data of another repository.
    let room = Room::new(true);
    let taken = room.take_all();
    let passphrase = Secret::passphrase("a long passphrase").unwrap();
    let root = room.dir.path().join("copy");
    let copy = Repository::init(place(&root), &passphrase.recipients()).unwrap();
    copy::snapshot(&room.repository, &copy, &taken[0], &()).unwrap();
    let theirs = copy.snapshots().unwrap().listed().next().unwrap().clone();
    fs::copy(
        root.join(format!("snapshots/{}", theirs.id)),
        room.root().join(format!("snapshots/{}", theirs.id)),
    )
    .unwrap();
    assert!(
        room.repository.snapshots().is_err(),
        "written under another key"
    );
}
