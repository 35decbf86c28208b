//! What every place does, held against a directory, a store in memory, and two S3 servers that are not related: moto's and
//! rclone's. These come from the Python packages of `ci/python.txt`, which `ci/test --prepare` installs. Where they are
//! missing, their tests are counted as ignored.

#![allow(clippy::unwrap_used, clippy::panic)]

mod cases;
mod lost_answers;
mod servers;

use libtest_mimic::{Arguments, Trial};
use object_store::memory::InMemory;
use servers::{KEYS, Server};
use std::{
    os::unix::process::CommandExt as _,
    process::{Command, ExitCode},
    sync::Arc,
};
use store::{Access, Bucket, Directory, Limited, Store};

/// A case: what it is called, and what it does with an empty place.
type Case = (&'static str, fn(&Arc<dyn Store>));

const CASES: &[Case] = &[
    ("an_object_is_whole_only_once_it_is_finished", cases::whole),
    ("an_object_of_many_parts_is_read_as_written", cases::parts),
    ("more_than_a_thousand_objects_are_listed", cases::thousand),
    ("names_are_taken_as_they_are", cases::names),
    ("a_name_that_leads_out_is_refused", cases::outside),
    ("what_is_missing_is_said_to_be_missing", cases::missing),
    ("bytes_are_read_where_they_are", cases::ranges),
    ("of_two_writers_exactly_one_wins", cases::one_wins),
    (
        "a_place_that_can_not_commit_is_found_out",
        cases::can_commit,
    ),
    ("a_place_below_another_sees_only_its_own", cases::below),
];

fn main() -> ExitCode {
    // The clients of object stores read their keys from the environment, which a process sets only for another one.
    if KEYS
        .iter()
        .any(|(key, value)| std::env::var(key).as_deref() != Ok(value))
    {
        let again = Command::new(std::env::current_exe().unwrap())
            .args(std::env::args_os().skip(1))
            .envs(KEYS)
            .exec();
        panic!("{again}");
    }
    let mut trials = lost_answers::trials();
    let kept = tempfile::tempdir().unwrap();
    for &(name, case) in CASES {
        let root = kept.path().join(name);
        trials.push(Trial::test(format!("directory::{name}"), move || {
            case(&(Arc::new(Directory::new(root.join("place"))) as _));
            Ok(())
        }));
        trials.push(Trial::test(format!("memory::{name}"), move || {
            let bucket = Bucket::new(Arc::new(InMemory::new()), "memory://test", "a/place");
            case(&(Arc::new(bucket.unwrap()) as _));
            Ok(())
        }));
        let root = kept.path().join(format!("limited {name}"));
        trials.push(Trial::test(format!("limited::{name}"), move || {
            let rate = (1 << 40).try_into().unwrap();
            let directory = Arc::new(Directory::new(root));
            case(&(Arc::new(Limited::new(directory, rate)) as _));
            Ok(())
        }));
    }
    let mut running = Vec::new();
    for (kind, started) in [("moto", Server::moto()), ("rclone", Server::rclone())] {
        let endpoint = match started {
            Ok(server) => {
                let endpoint = server.endpoint.clone();
                running.push(server);
                Some(endpoint)
            }
            Err(missing) => {
                eprintln!("skipped: an S3 server of {kind}: {missing}");
                None
            }
        };
        for (number, &(name, case)) in CASES.iter().enumerate() {
            let endpoint = endpoint.clone();
            let ignored = endpoint.is_none() || cases::unsupported(kind, name);
            let trial = Trial::test(format!("{kind}::{name}"), move || {
                let access = Access {
                    endpoint,
                    region: Some("us-east-1".to_owned()),
                    allow_http: true,
                    retries: 2,
                };
                let url = format!("s3://test/{kind} {number}/a place");
                case(&store::open(&url, &access).unwrap());
                Ok(())
            });
            trials.push(trial.with_ignored_flag(ignored));
        }
    }
    let conclusion = libtest_mimic::run(&Arguments::from_args(), trials);
    drop(running);
    conclusion.exit_code()
}
