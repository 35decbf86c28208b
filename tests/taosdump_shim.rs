//! The glue of `c-shim/taosdump`, in a program that stands in for a patched taosdump: what reaches the engine, and what
//! is said about an engine that can't be used.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod c_build;

use c_build::compile::{self, Language};
use c_build::{cc_build, compiler, install, root, run};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use tempfile::TempDir;

struct StandIn {
    dir: TempDir,
}

impl StandIn {
    /// With the listing engine built in.
    fn build() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut command = glue("taosdump_stand_in.c");
        command
            .arg(root().join("tests/c/taosdump_listing_engine.c"))
            .args(["-ldl", "-o"])
            .arg(dir.path().join("taosdump"));
        run(&mut command);
        Self { dir }
    }

    fn call(&self, arguments: &[&str]) -> Output {
        Command::new(self.dir.path().join("taosdump"))
            .args(arguments)
            .current_dir(self.dir.path())
            .output()
            .unwrap()
    }

    fn plugin(&self, name: &str, defines: &[&str]) -> PathBuf {
        let path = self.dir.path().join(name);
        let mut command = compiler("taosdump_listing_engine.c");
        command
            .arg("-I")
            .arg(root().join("c-shim/include"))
            .args(["-shared", "-fPIC"])
            .args(defines)
            .arg("-o")
            .arg(&path);
        run(&mut command);
        path
    }

    /// Calls with a plugin that can't be used; gives what was said.
    fn refused(&self, plugin: &Path) -> String {
        let output = self.call(&["--incremental", "--bitmap-plugin", plugin.to_str().unwrap()]);
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        assert!(output.stdout.is_empty(), "{output:?}");
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(said.contains(plugin.to_str().unwrap()), "{said}");
        said
    }
}

/// A compiler for a program with the glue.
fn glue(source: &str) -> Command {
    let mut command = compiler(source);
    command
        .args(["-D_GNU_SOURCE", "-I"])
        .arg(root().join("c-shim/include"))
        .arg("-I")
        .arg(root().join("c-shim/taosdump"))
        .arg(root().join("c-shim/taosdump/taosdump_incremental.c"));
    command
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

/// What the build script does with a glue of these lines.
fn checked(lines: &str) -> Result<(), compile::Failure> {
    let dir = tempfile::tempdir().unwrap();
    let glue = dir.path().join("glue");
    std::fs::create_dir(&glue).unwrap();
    std::fs::write(glue.join("taosdump_incremental.c"), lines).unwrap();
    let mut build = cc_build(Language::C);
    compile::check_glue(build.out_dir(dir.path().join("out")), &glue)
}

/// What the build script does with a header of these lines.
fn checked_header(lines: &str, language: Language) -> Result<(), compile::Failure> {
    let dir = tempfile::tempdir().unwrap();
    let (include, out) = (dir.path().join("include"), dir.path().join("out"));
    std::fs::create_dir(&include).unwrap();
    std::fs::create_dir(&out).unwrap();
    std::fs::write(include.join("engine.h"), lines).unwrap();
    let mut build = cc_build(language);
    compile::check_headers(build.out_dir(&out), &include, &out, language)
}

#[test]
fn a_build_fails_if_the_glue_is_broken_or_gives_a_warning() {
    checked("int answer(void);\nint answer(void) { return 1; }\n").unwrap();
    for broken in [
        "int answer(void);\nint answer(void) { return 1 }\n",
        "int answer(void);\nint answer(void) { int unused; return 1; }\n",
        "int answer(void);\nint answer(void) { return 1.5 * 3L; }\n",
    ] {
        let said = checked(broken).unwrap_err().to_string();
        assert!(said.contains("taosdump_incremental.c"), "{said}");
    }
}

#[test]
fn a_build_fails_if_a_header_needs_another_before_it() {
    let (alone, in_need) = (
        "#include <stdint.h>\nuint8_t f(void);\n",
        "uint8_t f(void);\n",
    );
    checked_header(alone, Language::C).unwrap();
    let said = checked_header(in_need, Language::C)
        .unwrap_err()
        .to_string();
    assert!(said.contains("engine.c"), "{said}");
}

#[test]
fn the_engine_gets_every_option_in_order_and_its_code_is_the_programs() {
    let output = StandIn::build().call(&[
        "-h",
        "db1",
        "--incremental",
        "-i",
        "a",
        "-i",
        "b",
        "--inpath=c",
        "-T4",
        "--base",
        "/x",
        "--data-dir=/1",
        "--data-dir",
        "/2",
        "--no-flush",
        "--option=VGROUPS=2",
        "--json",
        "meters",
        "d1",
        "d2",
    ]);
    assert_eq!(output.status.code(), Some(3), "{output:?}");
    assert_eq!(
        text(&output.stdout),
        "h=db1\n0x101=(none)\ni=a\ni=b\ni=c\nT=4\n0x102=/x\n0x104=/1\n0x104=/2\n0x105=(none)\n0x107=VGROUPS=2\n\
         0x106=(none)\n\
         0=meters\n0=d1\n0=d2\npassword=(none)"
    );
}

#[test]
fn options_that_taosdump_blanks_before_it_parses_are_not_lost() {
    let output =
        StandIn::build().call(&["-n", "--incremental", "meters", "--schemaonly", "d1", ""]);
    assert_eq!(
        text(&output.stdout),
        "n=(none)\n0x101=(none)\ns=(none)\n0=meters\n0=d1\npassword=(none)"
    );
}

#[test]
fn a_password_is_taken_from_its_word_or_from_standard_input() {
    let stand_in = StandIn::build();
    for word in ["-psecret", "--password=secret", "-gpsecret"] {
        let output = stand_in.call(&["--incremental", word]);
        let got = text(&output.stdout);
        assert!(got.ends_with("p=(none)\npassword=secret"), "{word}: {got}");
    }
    for word in ["-p", "--password"] {
        let mut command = Command::new(stand_in.dir.path().join("taosdump"));
        let mut child = command
            .args([word, "--incremental"])
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let mut input = child.stdin.take().unwrap();
        std::io::Write::write_all(&mut input, b"two words\n").unwrap();
        drop(input);
        let output = child.wait_with_output().unwrap();
        let got = text(&output.stdout);
        assert!(got.ends_with("password=two words"), "{word}: {got}");
    }
    let output = stand_in.call(&["--incremental", "-p"]);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
}

#[cfg(target_os = "linux")]
#[test]
fn a_password_does_not_stay_in_the_list_of_processes() {
    let stand_in = StandIn::build();
    stand_in.plugin("words.so", &["-DSHOW_WORDS"]);
    for word in ["-psecret", "--password=secret"] {
        let output = stand_in.call(&["--incremental", word, "--bitmap-plugin", "words.so"]);
        let got = text(&output.stdout);
        let (words, password) = got.split_once("password=s").unwrap();
        assert!(words.contains("--bitmap-plugin words.so"), "{got}");
        assert!(!words.contains("secret"), "{got}");
        assert_eq!(password, "ecret");
    }
}

#[test]
fn a_command_line_that_makes_no_sense_is_wrong_usage_and_says_which_word() {
    let stand_in = StandIn::build();
    for (arguments, word) in [
        (["--incremental", "--nonsense", "-A"], "--nonsense"),
        (["--incremental", "-y", "-A"], "-y"),
        (["--incremental", "--json=x", "-A"], "--json=x"),
        (["--incremental", "-A", "-o"], "-o"),
        (["--incremental", "-A", "--base"], "--base"),
    ] {
        let output = stand_in.call(&arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {output:?}");
        let said = text(&output.stderr);
        assert!(said.starts_with(&format!("taosdump: {word}: ")), "{said}");
        assert!(output.stdout.is_empty(), "{output:?}");
    }
}

#[test]
fn a_question_is_answered_by_taosdump_itself() {
    let output = StandIn::build().call(&["--incremental", "--help"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(text(&output.stdout).contains("Usage:"), "{output:?}");
}

#[test]
fn many_options_are_all_remembered() {
    let mut arguments = vec!["--incremental"];
    arguments.resize(2001, "-ix");
    let output = StandIn::build().call(&arguments);
    assert_eq!(text(&output.stdout).matches("i=x\n").count(), 2000);
}

#[test]
fn without_our_options_taosdump_does_its_own_work() {
    let output = StandIn::build().call(&["-h", "db1", "-n", "meters"]);
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(text(&output.stdout), "taosdump's own work\n");
    assert_eq!(text(&output.stderr), "");
}

#[test]
fn our_options_without_incremental_are_wrong_usage() {
    let stand_in = StandIn::build();
    for (option, argument) in [
        ("--base", Some("x")),
        ("--bitmap-plugin", Some("x")),
        ("--data-dir", Some("x")),
        ("--no-flush", None),
        ("--option", Some("REPLICA=1")),
        ("--json", None),
        ("--check-base", None),
        ("--format", Some("avro")),
        ("--dry-run", None),
    ] {
        let mut arguments = vec![option];
        arguments.extend(argument);
        let output = stand_in.call(&arguments);
        assert_eq!(output.status.code(), Some(2), "{option}: {output:?}");
        assert_eq!(
            text(&output.stderr),
            format!("taosdump: {option} needs --incremental\n")
        );
    }
}

#[test]
fn help_shows_our_options_in_a_group_of_their_own_at_the_end() {
    let output = StandIn::build().call(&["--help"]);
    let help = text(&output.stdout);
    let ours = help.split_once("Incremental backup:").expect(help).1;
    for option in [
        "--incremental",
        "--base=DIR",
        "--bitmap-plugin=PATH",
        "--data-dir=DIR",
        "--no-flush",
        "--option=NAME=VALUE",
        "--json",
        "--check-base",
        "--format=avro|parquet",
        "--dry-run",
    ] {
        assert!(ours.contains(option), "{help}");
    }
    assert!(
        !ours.contains("--host") && !ours.contains("--retry"),
        "{help}"
    );
}

#[test]
fn a_plugin_is_used_in_place_of_the_built_in_engine() {
    let stand_in = StandIn::build();
    stand_in.plugin("other.so", &[]);
    // A file of the current directory, which dlopen alone would not find.
    let output = stand_in.call(&["--incremental", "--bitmap-plugin", "other.so"]);
    assert_eq!(output.status.code(), Some(3), "{output:?}");
    assert_eq!(
        text(&output.stdout),
        "0x101=(none)\n0x103=other.so\npassword=(none)"
    );
}

#[test]
fn a_code_that_the_system_would_cut_to_success_is_a_failure() {
    let stand_in = StandIn::build();
    stand_in.plugin("odd.so", &["-DCODE=256"]);
    let output = stand_in.call(&["--incremental", "--bitmap-plugin", "odd.so"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
}

#[test]
fn a_plugin_that_is_not_there_or_no_library_is_refused() {
    let stand_in = StandIn::build();
    let said = stand_in.refused(&stand_in.dir.path().join("none.so"));
    assert!(said.contains("No such file"), "{said}");
    let path = stand_in.dir.path().join("text.so");
    std::fs::write(&path, "not a library").unwrap();
    let said = stand_in.refused(&path);
    assert!(said.contains("can't be loaded"), "{said}");
}

#[test]
fn a_plugin_without_the_symbol_is_refused() {
    let stand_in = StandIn::build();
    let said = stand_in.refused(&stand_in.plugin("p.so", &["-DNAME=something_else"]));
    assert!(said.contains("no symbol taosdump_engine"), "{said}");
}

#[test]
fn a_plugin_of_another_interface_version_is_refused_with_both_versions() {
    let stand_in = StandIn::build();
    let said = stand_in.refused(&stand_in.plugin("p.so", &["-DABI=7u"]));
    assert!(
        said.contains("has interface version 7, this taosdump needs 1"),
        "{said}"
    );
}

#[test]
fn a_plugin_that_is_not_whole_is_refused() {
    let stand_in = StandIn::build();
    let said = stand_in.refused(&stand_in.plugin("short.so", &["-DSIZE=16"]));
    assert!(said.contains("16 bytes"), "{said}");
    let said = stand_in.refused(&stand_in.plugin("idle.so", &["-DRUN=0"]));
    assert!(said.contains("not whole"), "{said}");
    let said = stand_in.refused(&stand_in.plugin("null.so", &["-DRESULT=0"]));
    assert!(said.contains("returned NULL"), "{said}");
}

#[test]
fn the_librarys_engine_is_one_that_taosdump_can_call() {
    let dir = tempfile::tempdir().unwrap();
    let prefix = dir.path().join("prefix");
    install(&prefix);
    let program = dir.path().join("program");
    run(compiler("taosdump_engine.c")
        .arg("-I")
        .arg(prefix.join("include/incremental_bitmap"))
        .arg(prefix.join("lib/libincremental_bitmap.a"))
        .args(["-ldl", "-lm", "-o"])
        .arg(&program));
    run(&mut Command::new(&program));
}
