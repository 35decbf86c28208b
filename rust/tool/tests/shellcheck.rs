//! What shellcheck says about generated scripts. Where there is no shellcheck, the test is counted as ignored.

mod hostile;

use libtest_mimic::{Arguments, Failed, Trial};
use ops::script::Script;
use std::process::{Command, ExitCode};

fn main() -> ExitCode {
    let missing = Command::new("shellcheck")
        .arg("--version")
        .output()
        .is_err();
    if missing {
        eprintln!("skipped: shellcheck_finds_nothing: no shellcheck");
    }
    let trial = Trial::test("shellcheck_finds_nothing", nothing_is_found);
    libtest_mimic::run(
        &Arguments::from_args(),
        vec![trial.with_ignored_flag(missing)],
    )
    .exit_code()
}

fn nothing_is_found() -> Result<(), Failed> {
    for value in hostile::VALUES {
        let dir = tempfile::tempdir()?;
        let path = dir.path().join("script.sh");
        let script = Script {
            tool: "/opt/tool".to_owned(),
            taosdump: "/opt/taosdump".to_owned(),
            host: value.to_owned(),
            port: 6030,
            user: None,
            config_dir: None,
            database: "db".to_owned(),
            data_dirs: vec![value.to_owned(), value.to_owned()],
            since: Some("0".to_owned()),
            backup: "/backup".to_owned(),
        };
        script.save(&path)?;
        let output = Command::new("shellcheck").arg(&path).output()?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stdout);
            return Err(format!("{value}: {said}").into());
        }
    }
    Ok(())
}
