//! docs/repository-format.md: its examples are objects that decode as they stand there.

use super::*;

const DOCUMENT: &str = include_str!("../../../../docs/repository-format.md");

/// The block of code that follows a heading.
fn example(heading: &str) -> String {
    let (_, rest) = DOCUMENT.split_once(&format!("\n{heading}\n")).unwrap();
    let (_, rest) = rest.split_once("```").unwrap();
    let (_, rest) = rest.split_once('\n').unwrap();
    rest.split_once("```").unwrap().0.to_owned()
}

/// Bytes of a hex dump: digits after an offset.
fn dump(text: &str) -> Vec<u8> {
    let digits: String = text
        .lines()
        .flat_map(|line| line.split_once(": ").map(|(_, rest)| rest))
        .flat_map(|rest| rest.split_whitespace())
        .collect();
    digits
        .as_bytes()
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}

#[test]
fn the_documented_objects_are_a_repository() {
    let dir = tempfile::tempdir().unwrap();
    let store = place(dir.path());
    store
        .put("config", example("## config").as_bytes())
        .unwrap();
    let key = example("## keys/ID");
    let id = serde_json::from_str::<serde_json::Value>(&key).unwrap()["id"]
        .as_str()
        .unwrap()
        .to_owned();
    store.put(&format!("keys/{id}"), key.as_bytes()).unwrap();
    let passphrase = Secret::passphrase("correct horse battery staple").unwrap();
    let repository = Repository::open(Arc::clone(&store), Some(&passphrase)).unwrap();
    let sealed = dump(&example("### A snapshot, encrypted"));
    let snapshot: Snapshot = serde_json::from_str(&example("## snapshots/ID")).unwrap();
    store
        .put(&format!("snapshots/{}", snapshot.id), &sealed)
        .unwrap();
    let snapshots = repository.snapshots().unwrap();
    assert_eq!(snapshots.listed().collect::<Vec<_>>(), [&snapshot]);
}

/// Prints what stands in the document. `cargo test -p repository --test repo -- --ignored --nocapture document`
#[test]
#[ignore = "it makes the examples of docs/repository-format.md anew"]
fn print_the_examples() {
    let dir = tempfile::tempdir().unwrap();
    let passphrase = Secret::passphrase("correct horse battery staple").unwrap();
    let repository = Repository::init(place(dir.path()), &passphrase.recipients()).unwrap();
    let recorded = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/data/chain_parquet");
    let notes = Notes {
        host: "db1".to_owned(),
        labels: [("reason".to_owned(), "before upgrade".to_owned())].into(),
    };
    let taken = import::link(&repository, &open_link(&recorded.join("full")), &notes, &()).unwrap();
    let snapshot = taken.snapshot();
    let store = place(dir.path());
    println!(
        "{}",
        String::from_utf8(store.get("config").unwrap()).unwrap()
    );
    let key = &repository.keys().unwrap()[0].id;
    println!(
        "{}",
        String::from_utf8(store.get(&format!("keys/{key}")).unwrap()).unwrap()
    );
    println!("{}", serde_json::to_string_pretty(snapshot).unwrap());
    let sealed = store.get(&format!("snapshots/{}", snapshot.id)).unwrap();
    for (at, line) in sealed.chunks(48).enumerate() {
        println!("{:06x}: {}", at * 48, store::hex(line));
    }
}
