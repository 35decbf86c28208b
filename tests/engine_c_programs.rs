//! C99 programs against `bitmap_engine.h`: compiled with all warnings, linked with the static and the shared library, and
//! run.
#![allow(missing_docs)]

mod c_build;

use c_build::build_and_run;

#[test]
fn the_tour_in_c_runs() {
    build_and_run("engine_basics.c", |own| vec![own.join("state")]);
}

#[test]
fn misuse_gets_the_documented_codes() {
    build_and_run("engine_misuse.c", |_| Vec::new());
}

#[test]
fn many_threads_of_c_lose_nothing() {
    build_and_run("engine_threads.c", |_| Vec::new());
}
