//! What the shared libraries export is what their headers declare: no more, no less.
#![allow(clippy::unwrap_used, missing_docs)]

mod c_build;

use c_build::{install, libraries, root, run};
use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

/// The functions that a header declares.
fn declared(header: &str) -> BTreeSet<String> {
    let path = root().join("c-shim/include").join(header);
    let text = fs::read_to_string(path).unwrap();
    let mut plain = String::new();
    let mut rest = text.as_str();
    while let Some((before, comment)) = rest.split_once("/*") {
        plain.push_str(before);
        rest = comment.split_once("*/").unwrap().1;
    }
    plain.push_str(rest);
    let lines = plain.lines().filter(|line| !line.starts_with('#'));
    // What is in braces are members; the brace of extern "C" is left open on purpose.
    let plain = lines
        .collect::<Vec<_>>()
        .join("\n")
        .replace("extern \"C\" {", "");
    let mut depth = 0_i32;
    let mut outside = String::new();
    for letter in plain.chars() {
        match letter {
            '{' => depth += 1,
            '}' => depth = (depth - 1).max(0),
            _ if depth == 0 => outside.push(letter),
            _ => {}
        }
    }
    outside
        .split(';')
        .map(str::trim)
        .filter(|statement| !statement.starts_with("typedef"))
        .filter_map(|statement| {
            let (before, _) = statement.split_once('(')?;
            before
                .rsplit(|c: char| !c.is_alphanumeric() && c != '_')
                .next()
                .map(str::to_owned)
        })
        .collect()
}

fn exported(library: &str) -> BTreeSet<String> {
    let path = libraries().join(library);
    let output = run(Command::new("nm").args(["-D", "--defined-only"]).arg(path));
    String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        .filter_map(|line| line.split_once(" T "))
        .map(|(_, name)| name.to_owned())
        // In a build of the whole workspace the client of object stores asks this library for its own C functions, too. A
        // build of the C libraries alone does not have them.
        .filter(|name| !name.starts_with("crc_fast_"))
        .collect()
}

fn headers(of_taosx: bool) -> BTreeSet<String> {
    let mut functions = BTreeSet::new();
    for entry in fs::read_dir(root().join("c-shim/include")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if name.starts_with("taosx_") == of_taosx {
            functions.extend(declared(&name));
        }
    }
    functions
}

#[test]
fn the_engine_exports_what_its_headers_declare() {
    let declared = headers(false);
    assert!(declared.len() > 60 && declared.contains("monitor_wal_changes"));
    assert_eq!(exported("libincremental_bitmap.so"), declared);
}

#[test]
fn the_taosx_plugin_exports_what_its_header_declares() {
    let declared = headers(true);
    assert!(declared.contains("taosx_plugin_on_block_event"));
    assert_eq!(exported("libtaosx_incremental_bitmap_plugin.so"), declared);
}

#[test]
fn what_is_installed_is_stripped_and_its_lines_are_in_a_file_beside() {
    let dir = tempfile::tempdir().unwrap();
    install(dir.path());
    for (library, function) in [
        ("libincremental_bitmap_plugin.so", "taosdump_engine"),
        (
            "libtaosx_incremental_bitmap_plugin.so",
            "taosx_plugin_on_block_event",
        ),
    ] {
        let path = dir.path().join("lib").join(library);
        let sections = run(Command::new("readelf").args(["-SW"]).arg(&path));
        let sections = String::from_utf8(sections.stdout).unwrap();
        assert!(
            !sections.contains(".debug_") && !sections.contains(".symtab"),
            "{sections}"
        );
        let debug = dir.path().join("lib").join(format!("{library}.debug"));
        let symbols = run(Command::new("nm").arg(&debug));
        let symbols = String::from_utf8(symbols.stdout).unwrap();
        let symbol = symbols.lines().find(|line| line.ends_with(function));
        let address = symbol.unwrap().split(' ').next().unwrap();
        // Through the library, which must name that file.
        let line = run(Command::new("addr2line").arg("-e").arg(&path).arg(address));
        let line = String::from_utf8(line.stdout).unwrap();
        assert!(line.contains(".rs:"), "{library}: {line}");
    }
}
