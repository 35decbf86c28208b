//! The command line of taosdump, as far as it goes with `--incremental`.

use super::{Given, words};
use model::catalogue::seconds;
use ops::{
    backup::{BackupJob, Databases, RowsFormat},
    restore::{RestoreJob, WORTH_ROWS},
};
use rows::avro::Compression;
use server::Login;
use std::{
    collections::BTreeMap,
    ffi::{OsStr, OsString},
    path::{Path, PathBuf},
    sync::Arc,
};
use store::{Directory, Store};

/// The options that only the patched taosdump has; the numbers are those of `taosdump_engine.h`.
const INCREMENTAL: i32 = 0x101;
const BASE: i32 = 0x102;
const BITMAP_PLUGIN: i32 = 0x103;
const DATA_DIR: i32 = 0x104;
const NO_FLUSH: i32 = 0x105;
const JSON: i32 = 0x106;
const OPTION: i32 = 0x107;
const CHECK_BASE: i32 = 0x108;
const FORMAT: i32 = 0x109;
const OFFLINE: i32 = 0x10a;
const DRY_RUN: i32 = 0x10b;

/// Keys from here on are argp's own messages, not options.
const ARGP_MESSAGES: i32 = 0x0100_0000;

/// taosdump's defaults.
const THREADS: usize = 8;
const BATCH: usize = 16_383;

/// A command line that makes sense.
#[derive(Debug)]
pub(super) struct Options {
    pub(super) job: Job,
    pub(super) config_dir: Option<PathBuf>,
    pub(super) json: bool,
}

#[derive(Debug)]
pub(super) enum Job {
    Backup(BackupJob),
    Restore(RestoreJob),
    /// What a restore would do is to be said, and nothing done.
    Preview(RestoreJob),
}

#[derive(Default)]
struct Found {
    login: Login,
    out: Option<PathBuf>,
    links: Vec<PathBuf>,
    config_dir: Option<PathBuf>,
    databases: Vec<String>,
    all: bool,
    base: Option<PathBuf>,
    check_base: bool,
    data_dirs: Vec<PathBuf>,
    no_flush: bool,
    offline: bool,
    dry_run: bool,
    json: bool,
    has_password: bool,
    threads: Option<usize>,
    batch: Option<usize>,
    compression: Compression,
    rows: Option<RowsFormat>,
    rename: BTreeMap<String, String>,
    options: BTreeMap<String, String>,
}

impl Options {
    /// The error says what is wrong, and what would be right.
    pub(super) fn parse(given: &[Given], password: Option<OsString>) -> Result<Self, String> {
        let mut found = Found::default();
        found.login.password = password
            .map(|text| utf8(&text, "the password"))
            .transpose()?;
        for option in given.iter().filter(|option| option.key < ARGP_MESSAGES) {
            found.take(option)?;
        }
        found.finish()
    }
}

/// A link in a directory.
fn directory(path: &Path) -> Arc<dyn Store> {
    Arc::new(Directory::new(path))
}

fn utf8(text: &OsStr, what: &str) -> Result<String, String> {
    text.to_str()
        .map(str::to_owned)
        .ok_or_else(|| format!("{what} is not UTF-8"))
}

fn number(
    text: &str,
    option: &str,
    range: std::ops::RangeInclusive<usize>,
) -> Result<usize, String> {
    text.parse()
        .ok()
        .filter(|number| range.contains(number))
        .ok_or_else(|| {
            format!(
                "{option} {text}: a number from {} to {} is expected",
                range.start(),
                range.end()
            )
        })
}

/// One to three lengths of time, separated by commas: all three, as the server says them. Without a unit they are days.
fn keep(text: &str) -> Result<String, String> {
    const DAY: i64 = 86_400;
    let length = |span: &str| match span.trim() {
        days if days.ends_with(|c: char| c.is_ascii_digit()) => seconds(&format!("{days}d")),
        span => seconds(&span.to_ascii_lowercase()),
    };
    let lengths: Option<Vec<i64>> = text.split(',').map(length).collect();
    let fits = |lengths: &Vec<i64>| {
        let in_range = |length: &i64| (DAY..=365_000 * DAY).contains(length);
        lengths.len() <= 3 && lengths.is_sorted() && lengths.iter().all(in_range)
    };
    let in_words = |length: &i64| match length % DAY {
        0 => format!("{}d", length / DAY),
        _ => format!("{}m", length / 60),
    };
    match lengths.filter(fits) {
        Some(lengths) => {
            let last = lengths.iter().rev().take(1).cycle();
            let all = lengths.iter().chain(last).take(3);
            Ok(all.map(in_words).collect::<Vec<_>>().join(","))
        }
        None => Err(format!(
            "--option KEEP={text}: one to three lengths of time from 1d to 365000d are expected, none shorter than the \
             one before it, such as 3650d"
        )),
    }
}

fn rows_format(text: &str) -> Result<RowsFormat, String> {
    match text {
        "avro" => Ok(RowsFormat::Avro),
        "parquet" => Ok(RowsFormat::Parquet),
        other => Err(format!("--format {other}: avro or parquet is expected")),
    }
}

/// A path, as an option gives it. An unset variable makes it empty.
fn place(path: OsString, option: &str) -> Result<PathBuf, String> {
    match path.is_empty() {
        true => Err(format!("{option} is empty; a directory is expected")),
        false => Ok(path.into()),
    }
}

impl Found {
    fn take(&mut self, option: &Given) -> Result<(), String> {
        let letter = u8::try_from(option.key).map(char::from).unwrap_or('\0');
        let arg = option.arg.clone().unwrap_or_default();
        let text = |what: &str| utf8(&arg, what);
        match (option.key, letter) {
            (INCREMENTAL | BITMAP_PLUGIN, _) => {}
            (BASE, _) => match self.base.replace(place(arg, "--base")?) {
                None => {}
                Some(_) => return Err("--base is given twice; a link follows one other".to_owned()),
            },
            (CHECK_BASE, _) => self.check_base = true,
            (DATA_DIR, _) => self.data_dirs.push(place(arg, "--data-dir")?),
            (NO_FLUSH, _) => self.no_flush = true,
            (OFFLINE, _) => self.offline = true,
            (JSON, _) => self.json = true,
            (DRY_RUN, _) => self.dry_run = true,
            (FORMAT, _) => self.rows = Some(rows_format(&text("--format")?)?),
            (OPTION, _) => self.option(&text("--option")?)?,
            // It may be the password: `-p PASSWORD` looks like the way to give it.
            (0, _) if self.has_password => {
                return Err(
                    "a word stands where no option takes it: tables can't be named with --incremental, and a password is given \
                     as -pPASSWORD, without a blank, or in TD_PASSWORD"
                        .to_owned(),
                );
            }
            (0, _) => {
                return Err(format!(
                    "{}: tables can't be named with --incremental, which dumps whole databases; name them with -D",
                    arg.display()
                ));
            }
            (_, 'h') => self.login.host = Some(text("-h")?),
            (_, 'u') => self.login.user = Some(text("-u")?),
            (_, 'P') => self.login.port = number(&text("-P")?, "-P", 0..=65_535)? as u16,
            // The password itself is handed over separately. `-e` asks for what is always done here.
            (_, 'p') => self.has_password |= option.arg.is_none(),
            (_, 'e' | 'g') => {}
            (_, 'o') => match self.out.replace(place(arg, "-o")?) {
                None => {}
                Some(_) => return Err("-o is given twice; a dump makes one link".to_owned()),
            },
            (_, 'i') => self.links.push(place(arg, "-i")?),
            (_, 'c') => self.config_dir = Some(arg.into()),
            (_, 'D') => {
                let names = words::of(&text("-D")?);
                let names = words::split(&names, ',').map(words::text);
                let before = self.databases.len();
                self.databases.extend(names.filter(|name| !name.is_empty()));
                // An unset variable must not mean every database.
                if self.databases.len() == before {
                    return Err("-D names no database; name one, or leave -D out".to_owned());
                }
            }
            (_, 'A') => self.all = true,
            (_, 'T') => self.threads = Some(number(&text("-T")?, "-T", 1..=1024)?),
            (_, 'B') => self.batch = Some(number(&text("-B")?, "-B", 1..=1_000_000)?),
            (_, 'd') => self.compression = codec(&text("-d")?)?,
            (_, 'W') => self.rename(&text("-W")?)?,
            (_, 'Z') if matches!(text("-Z")?.to_lowercase().as_str(), "native" | "0") => {}
            (_, letter) => {
                return Err(format!(
                    "option -{letter} can't be used with --incremental; see taosdump --help and docs/taosdump.md"
                ));
            }
        }
        Ok(())
    }

    /// `NAME=VALUE`.
    fn option(&mut self, text: &str) -> Result<(), String> {
        let expected = || {
            format!(
                "--option {text}: NAME=VALUE is expected, with one of BUFFER, DNODES, KEEP, REPLICA and VGROUPS"
            )
        };
        let (name, value) = text.split_once('=').ok_or_else(expected)?;
        let (name, value) = (name.trim().to_uppercase(), value.trim());
        let value = match name.as_str() {
            "DNODES" => {
                let dnodes = value.trim_matches('\'');
                let is_number = |dnode: &str| dnode.trim().parse::<u16>().is_ok();
                if !dnodes.split(',').all(is_number) {
                    return Err(expected());
                }
                format!("'{dnodes}'")
            }
            "BUFFER" => number(value, "--option BUFFER", 3..=16_384)?.to_string(),
            "KEEP" => keep(value)?,
            "REPLICA" => number(value, "--option REPLICA", 1..=3)?.to_string(),
            "VGROUPS" => number(value, "--option VGROUPS", 1..=1024)?.to_string(),
            _ => return Err(expected()),
        };
        match self.options.insert(name.clone(), value) {
            None => Ok(()),
            Some(_) => Err(format!("--option {name} is given twice; give it once")),
        }
    }

    /// `old=new|old=new`.
    fn rename(&mut self, text: &str) -> Result<(), String> {
        let words = words::of(text);
        for pair in words::split(&words, '|') {
            let names: Vec<String> = words::split(pair, '=').map(words::trimmed).collect();
            match <[String; 2]>::try_from(names) {
                Ok([old, new]) if !old.is_empty() && !new.is_empty() => {
                    if let Some(other) = self.rename.insert(old.clone(), new) {
                        return Err(format!(
                            "-W renames database {old} twice, first to {other}; give it one name"
                        ));
                    }
                }
                Err(names) if names.iter().all(String::is_empty) && names.len() == 1 => {}
                _ => {
                    return Err(format!(
                        "-W {text}: old=new is expected, several separated by |; a | or = in a name, and a blank at its \
                         end, are written with \\ before them"
                    ));
                }
            }
        }
        Ok(())
    }

    fn finish(self) -> Result<Options, String> {
        let threads = self.threads.unwrap_or(THREADS);
        let job = match (self.out, self.links.is_empty()) {
            (Some(_), false) => {
                return Err("-o and -i are both given; dump or restore, not both".to_owned());
            }
            (None, true) => {
                return Err(
                    "nothing to do: give -o DIR to dump, or -i DIR (for every link) to restore"
                        .to_owned(),
                );
            }
            (Some(out), true) => {
                if !self.options.is_empty() {
                    return Err(
                        "--option is for restoring (-i): it says how a database is created"
                            .to_owned(),
                    );
                }
                if self.dry_run {
                    return Err(
                        "--dry-run is for restoring (-i): it says what would be restored"
                            .to_owned(),
                    );
                }
                if !self.rename.is_empty() {
                    return Err(
                        "-W renames databases when they are restored; it needs -i".to_owned()
                    );
                }
                if self.offline {
                    if self.data_dirs.is_empty() {
                        return Err(
                            "--offline reads the files of a server that does not run; name its data directories with --data-dir"
                                .to_owned(),
                        );
                    }
                    let asks = self.login.host.is_some() || self.login.port != 0;
                    if self.no_flush || asks {
                        return Err(
                            "--offline asks no server; leave -h, -P and --no-flush out".to_owned()
                        );
                    }
                }
                if self.check_base && self.base.is_none() {
                    return Err(
                        "--check-base checks the link that --base gives; give both".to_owned()
                    );
                }
                let databases = match (self.all, self.databases.is_empty()) {
                    (true, true) => Databases::All,
                    (false, false) => Databases::Named(distinct(self.databases)?),
                    (true, false) => {
                        return Err("-A and -D are both given; give one of them".to_owned());
                    }
                    (false, true) => {
                        return Err("name the databases with -D, or give -A for all".to_owned());
                    }
                };
                Job::Backup(BackupJob {
                    login: self.login,
                    databases,
                    out,
                    base: self.base.map(|base| directory(&base)),
                    check_base: self.check_base,
                    data_dirs: self.data_dirs,
                    no_flush: self.no_flush,
                    offline: self.offline,
                    threads,
                    compression: self.compression,
                    rows: self.rows.unwrap_or_default(),
                })
            }
            (None, false) => {
                let unused = [
                    (self.base.is_some(), "--base"),
                    (self.check_base, "--check-base"),
                    (!self.data_dirs.is_empty(), "--data-dir"),
                    (self.no_flush, "--no-flush"),
                    (self.offline, "--offline"),
                    (self.rows.is_some(), "--format"),
                    (self.all, "-A"),
                ];
                if let Some((_, option)) = unused.iter().find(|(given, _)| *given) {
                    return Err(format!(
                        "{option} is for dumping (-o), not for restoring (-i)"
                    ));
                }
                let is_left_out =
                    |name: &&String| !self.databases.is_empty() && !self.databases.contains(name);
                if let Some(name) = self.rename.keys().find(is_left_out) {
                    return Err(format!(
                        "-W renames database {name}, which -D does not name; add it to -D, or leave it out"
                    ));
                }
                let job = RestoreJob {
                    login: self.login,
                    databases: distinct(self.databases)?,
                    links: self.links.iter().map(|link| directory(link)).collect(),
                    rename: self.rename,
                    options: self.options,
                    threads,
                    batch: self.batch.unwrap_or(BATCH),
                    worth_options: WORTH_ROWS,
                };
                match self.dry_run {
                    true => Job::Preview(job),
                    false => Job::Restore(job),
                }
            }
        };
        Ok(Options {
            job,
            config_dir: self.config_dir,
            json: self.json,
        })
    }
}

fn distinct(names: Vec<String>) -> Result<Vec<String>, String> {
    let mut seen = std::collections::BTreeSet::new();
    match names.iter().find(|name| !seen.insert(name.as_str())) {
        Some(name) => Err(format!("-D names database {name} twice")),
        None => Ok(names),
    }
}

fn codec(name: &str) -> Result<Compression, String> {
    Ok(match name {
        "null" => Compression::Null,
        "deflate" => Compression::Deflate,
        "snappy" => Compression::Snappy,
        "lzma" => Compression::Lzma,
        _ => {
            return Err(format!(
                "-d {name}: null, deflate, snappy or lzma is expected"
            ));
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(options: &[(i32, &str)]) -> Vec<Given> {
        let given = |(key, arg): &(i32, &str)| Given {
            key: *key,
            arg: (!arg.is_empty()).then(|| arg.into()),
        };
        options.iter().map(given).collect()
    }

    fn parse(options: &[(i32, &str)]) -> Result<Options, String> {
        Options::parse(&given(options), None)
    }

    fn key(letter: char) -> i32 {
        letter as i32
    }

    #[test]
    fn a_dump_is_understood() {
        let options = parse(&[
            (INCREMENTAL, ""),
            (key('h'), "db1"),
            (key('P'), "6030"),
            (key('D'), "a,b"),
            (key('o'), "/out"),
            (BASE, "/base"),
            (DATA_DIR, "/d1"),
            (DATA_DIR, "/d2"),
            (key('T'), "3"),
            (0x0100_0001, ""),
        ])
        .unwrap();
        let Job::Backup(job) = options.job else {
            panic!("{options:?}")
        };
        assert_eq!(
            job.databases,
            Databases::Named(vec!["a".into(), "b".into()])
        );
        assert_eq!(
            (job.login.port, job.threads, job.data_dirs.len()),
            (6030, 3, 2)
        );
        assert_eq!(job.base.map(|base| base.place("")), Some("/base".into()));
    }

    #[test]
    fn a_restore_is_understood() {
        let options = parse(&[
            (key('i'), "full"),
            (key('i'), "inc"),
            (key('W'), "a=b|c=d"),
            (OPTION, "vgroups=4"),
            (OPTION, "DNODES=1,2"),
            (OPTION, "keep=30, 40D"),
        ])
        .unwrap();
        let Job::Restore(job) = options.job else {
            panic!("{options:?}")
        };
        let links: Vec<String> = job.links.iter().map(|link| link.place("")).collect();
        assert_eq!(links, ["full", "inc"]);
        assert_eq!(job.options["VGROUPS"], "4");
        assert_eq!(job.options["DNODES"], "'1,2'");
        assert_eq!(job.options["KEEP"], "30d,40d,40d");
        assert_eq!(job.rename["a"], "b");
        assert_eq!(job.rename["c"], "d");
        assert!(job.databases.is_empty());
    }

    #[test]
    fn a_name_may_hold_what_separates_names() {
        let restore = |option: (i32, &str)| {
            let options = parse(&[(key('i'), "x"), option]).unwrap();
            let Job::Restore(job) = options.job else {
                panic!("{options:?}")
            };
            job
        };
        let job = restore((key('W'), r"a\=b = \ c\|\ | d\e = f "));
        assert_eq!(
            job.rename,
            [
                ("a=b".to_owned(), " c| ".to_owned()),
                (r"d\e".to_owned(), "f".to_owned())
            ]
            .into()
        );
        let job = restore((key('D'), r"a\,b,c d,\\"));
        assert_eq!(job.databases, ["a,b", "c d", r"\"]);
    }

    #[test]
    fn what_makes_no_sense_is_refused_by_name() {
        let out = (key('o'), "x");
        for (options, expected) in [
            (vec![], "-o DIR"),
            (vec![out], "-D"),
            (vec![out, (key('i'), "x")], "both"),
            (vec![out, (key('A'), ""), (key('D'), "x")], "-A and -D"),
            (vec![out, (key('D'), "a,a")], "twice"),
            (vec![out, (key('D'), "a"), (key('S'), "0")], "-S"),
            (vec![out, (key('D'), "a"), (0, "tb")], "tb"),
            (vec![out, (key('D'), "a"), (key('d'), "zip")], "snappy"),
            (vec![out, (key('D'), "a"), (key('T'), "0")], "1 to 1024"),
            (vec![out, (key('D'), "a"), (key('W'), "a=b")], "-i"),
            (vec![(key('i'), "x"), (key('W'), "ab")], "old=new"),
            (vec![(key('i'), "x"), (key('W'), "a=b|a=c")], "twice"),
            (vec![(key('i'), "x"), (key('W'), "a=b=c")], "old=new"),
            (vec![(key('i'), "x"), (key('W'), "a=")], "old=new"),
            (vec![(key('i'), "x"), (key('D'), "a,a")], "twice"),
            (vec![(key('i'), "x"), (BASE, "b")], "--base"),
            (vec![out, (BASE, "b"), (BASE, "c")], "--base"),
            (vec![out, (key('D'), "a"), (OPTION, "REPLICA=1")], "-i"),
            (vec![(key('i'), "x"), (OPTION, "STT_TRIGGER=1")], "VGROUPS"),
            (vec![(key('i'), "x"), (OPTION, "KEEP=1x")], "KEEP=1x"),
            (vec![(key('i'), "x"), (OPTION, "KEEP=9d,8d")], "shorter"),
            (vec![(key('i'), "x"), (OPTION, "KEEP=23h")], "1d"),
            (vec![(key('i'), "x"), (OPTION, "BUFFER=2")], "3 to 16384"),
            (
                vec![(key('i'), "x"), (OPTION, "VGROUPS=99999999999999999999")],
                "1024",
            ),
            (vec![(key('i'), "x"), (OPTION, "DNODES=1'2")], "DNODES"),
            (
                vec![(key('i'), "x"), (key('D'), "")],
                "-D names no database",
            ),
            (
                vec![(key('i'), "x"), (key('D'), "a"), (key('W'), "b=c")],
                "-D",
            ),
            (vec![(key('i'), "")], "-i is empty"),
            (vec![(key('o'), "")], "-o is empty"),
            (vec![out, (key('A'), ""), (key('o'), "y")], "twice"),
            (vec![out, (key('A'), ""), (BASE, "")], "--base is empty"),
            (
                vec![(key('i'), "x"), (OPTION, "VGROUPS=1 KEEP 2")],
                "VGROUPS",
            ),
            (
                vec![
                    (key('i'), "x"),
                    (OPTION, "replica=1"),
                    (OPTION, "REPLICA=3"),
                ],
                "twice",
            ),
            (vec![out, (key('A'), ""), (CHECK_BASE, "")], "give both"),
            (vec![(key('i'), "x"), (CHECK_BASE, "")], "--check-base"),
            (vec![(key('i'), "x"), (FORMAT, "avro")], "--format"),
            (vec![(key('i'), "x"), (OFFLINE, "")], "--offline"),
            (vec![out, (key('A'), ""), (OFFLINE, "")], "--data-dir"),
            (
                vec![
                    out,
                    (key('A'), ""),
                    (OFFLINE, ""),
                    (DATA_DIR, "d"),
                    (NO_FLUSH, ""),
                ],
                "--no-flush",
            ),
            (vec![out, (key('A'), ""), (DRY_RUN, "")], "--dry-run"),
            (
                vec![out, (key('D'), "a"), (FORMAT, "json")],
                "avro or parquet",
            ),
        ] {
            let problem = parse(&options).unwrap_err();
            assert!(problem.contains(expected), "{options:?}: {problem}");
        }
    }
}
