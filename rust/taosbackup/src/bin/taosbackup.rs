//! `taosbackup`: repositories of TDengine backups.

use std::process::ExitCode;

fn main() -> ExitCode {
    taosbackup::run(std::env::args_os()).into()
}
