//! The examples of docs/link-format-2.md, run as they stand there on a recorded link: each gives what stands below it.
//! They need the Python packages of `ci/python.txt`, which `ci/test --prepare` installs. Where these are missing, the tests are
//! counted as ignored.

use libtest_mimic::{Arguments, Failed, Trial};
use std::{
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

/// Runs SQL: a line for each row, values with commas between.
const RUN_SQL: &str = r#"
import duckdb, sys
connection = duckdb.connect()
connection.execute("SET TimeZone = 'UTC'")
for statement in connection.extract_statements(sys.argv[1]):
    for row in connection.execute(statement).fetchall():
        print(",".join(str(value) for value in row))
"#;

const PACKAGES: &str = "import duckdb, pandas, pyarrow, pyroaring";

/// An example, and what it should give.
struct Example {
    language: &'static str,
    code: String,
    expected: String,
}

fn main() -> ExitCode {
    let doc = include_str!("../../../docs/link-format-2.md");
    let python = root().join("target/python/bin/python");
    let missing = missing(&python);
    if let Some(missing) = &missing {
        eprintln!("skipped: examples of docs/link-format-2.md: {missing}");
    }
    let all = examples(doc);
    let mut trials = vec![Trial::test("there_are_examples_of_both_languages", {
        let languages: Vec<&str> = all.iter().map(|example| example.language).collect();
        move || match languages.contains(&"sql") && languages.contains(&"python") {
            true => Ok(()),
            false => Err(format!("only {languages:?}").into()),
        }
    })];
    trials.extend((1..).zip(all).map(|(number, example)| {
        let name = format!("example_{number}_gives_what_is_documented");
        let python = python.clone();
        Trial::test(name, move || run(&python, &example)).with_ignored_flag(missing.is_some())
    }));
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// What is missing to run examples, if anything.
fn missing(python: &Path) -> Option<String> {
    let output = Command::new(python).args(["-c", PACKAGES]).output();
    match output {
        Err(error) => Some(format!(
            "no {} ({error}); ci/test --prepare makes it",
            python.display()
        )),
        Ok(output) if output.status.success() => None,
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stderr);
            Some(said.lines().last().unwrap_or("python failed").to_owned())
        }
    }
}

/// Blocks of code, each with the block of text that has to follow it.
fn examples(doc: &str) -> Vec<Example> {
    let mut blocks = Vec::new();
    let mut open: Option<(&str, String)> = None;
    for line in doc.lines() {
        match (&mut open, line.strip_prefix("```")) {
            (None, Some(language)) => open = Some((language, String::new())),
            (Some(_), Some(_)) => blocks.extend(open.take()),
            (Some((_, code)), None) => {
                code.push_str(line);
                code.push('\n');
            }
            (None, None) => {}
        }
    }
    let mut all = Vec::new();
    for (at, (language, code)) in blocks.iter().enumerate() {
        let language = match *language {
            "sql" => "sql",
            "python" => "python",
            _ => continue,
        };
        let next = blocks.get(at + 1);
        let expected = next.filter(|(language, _)| *language == "text");
        all.push(Example {
            language,
            code: code.clone(),
            expected: expected.map(|(_, text)| text.clone()).unwrap_or_default(),
        });
    }
    all
}

fn run(python: &Path, example: &Example) -> Result<(), Failed> {
    let code = example.code.as_str();
    let arguments = match example.language {
        "sql" => vec!["-c", RUN_SQL, code],
        _ => vec!["-c", code],
    };
    let output = Command::new(python)
        .args(arguments)
        .current_dir(root().join("tests/data/chain_parquet/full"))
        .env("TZ", "UTC")
        .output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        return Err(format!("{code}\n{said}").into());
    }
    let found = String::from_utf8(output.stdout)?;
    match found == example.expected && !found.is_empty() {
        true => Ok(()),
        false => Err(format!("{code}\ngives\n{found}\nand not\n{}", example.expected).into()),
    }
}
