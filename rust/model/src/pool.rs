//! A pool of workers: jobs in order, each done by whichever worker is free.

use std::{
    panic::resume_unwind,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
        mpsc::{self, Receiver},
    },
    thread,
};

/// Does every job, on as many threads as there are jobs, at most `threads`. Each worker begins with what `begin` makes,
/// such as no connection yet. After the first error no further job begins. A panic of a job goes on in the caller, once
/// the other workers have ended.
///
/// # Errors
/// The first error of the first worker that had one.
pub fn run<J: Sync, W, E: Send>(
    jobs: &[J],
    threads: usize,
    begin: impl Fn() -> W + Sync,
    each: impl Fn(&mut W, &J) -> Result<(), E> + Sync,
) -> Result<(), E> {
    let next = AtomicUsize::new(0);
    let given_up = AtomicBool::new(false);
    let work = || {
        let mut worker = begin();
        while !given_up.load(Ordering::Relaxed) {
            let Some(job) = jobs.get(next.fetch_add(1, Ordering::Relaxed)) else {
                break;
            };
            // A panic must stop the others, too.
            let stop = StopUnlessDone(&given_up);
            each(&mut worker, job)?;
            std::mem::forget(stop);
        }
        Ok(())
    };
    let threads = threads.clamp(1, jobs.len().max(1));
    thread::scope(|scope| {
        let others: Vec<_> = (1..threads).map(|_| scope.spawn(work)).collect();
        let mut outcome = work();
        for other in others {
            let ended = other.join().unwrap_or_else(|panic| resume_unwind(panic));
            outcome = outcome.and(ended);
        }
        outcome
    })
}

/// Does jobs while they are being made: `make` runs in this thread, and hands each job over, which says whether any further
/// one is wanted. They are done on `threads` others, and no more than as many wait. After the first error no further job
/// begins. A panic of a job goes on in the caller.
///
/// # Errors
/// That of `make`, else the first error of the first worker that had one.
pub fn feed<J: Send, W, E: Send>(
    threads: usize,
    begin: impl Fn() -> W + Sync,
    each: impl Fn(&mut W, J) -> Result<(), E> + Sync,
    make: impl FnOnce(&mut dyn FnMut(J) -> bool) -> Result<(), E>,
) -> Result<(), E> {
    let threads = threads.max(1);
    let given_up = AtomicBool::new(false);
    let next = |jobs: &Mutex<Receiver<J>>| {
        let job = jobs.lock().unwrap_or_else(PoisonError::into_inner).recv();
        job.ok().filter(|_| !given_up.load(Ordering::Relaxed))
    };
    let work = |jobs: Arc<Mutex<Receiver<J>>>| {
        let mut worker = begin();
        while let Some(job) = next(&jobs) {
            // A panic must stop the others, too.
            let stop = StopUnlessDone(&given_up);
            each(&mut worker, job)?;
            std::mem::forget(stop);
        }
        Ok(())
    };
    thread::scope(|scope| {
        let (sender, jobs) = mpsc::sync_channel(threads);
        let jobs = Arc::new(Mutex::new(jobs));
        let start = |_| {
            let jobs = Arc::clone(&jobs);
            scope.spawn(|| work(jobs))
        };
        let workers: Vec<_> = (0..threads).map(start).collect();
        // Once all workers have ended, nobody has the jobs any more, and handing one over fails.
        drop(jobs);
        let mut hand_over = |job| !given_up.load(Ordering::Relaxed) && sender.send(job).is_ok();
        let mut outcome = make(&mut hand_over);
        drop(sender);
        for worker in workers {
            let ended = worker.join().unwrap_or_else(|panic| resume_unwind(panic));
            outcome = outcome.and(ended);
        }
        outcome
    })
}

/// Tells the other workers to give up unless the job was done.
struct StopUnlessDone<'a>(&'a AtomicBool);

impl Drop for StopUnlessDone<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicU64;

    #[test]
    fn every_job_is_done_once() {
        for threads in [0, 1, 3, 100] {
            let jobs: Vec<u64> = (1..=50).collect();
            let sum = AtomicU64::new(0);
            let result: Result<(), ()> = run(
                &jobs,
                threads,
                || (),
                |(), job| {
                    sum.fetch_add(*job, Ordering::Relaxed);
                    Ok(())
                },
            );
            assert_eq!((result, sum.into_inner()), (Ok(()), 1_275));
        }
        assert_eq!(run(&[0; 0], 4, || (), |(), _| Err(())), Ok(()));
    }

    #[test]
    fn after_an_error_no_further_job_begins() {
        let jobs: Vec<u64> = (0..1_000).collect();
        let begun = AtomicU64::new(0);
        let result = run(
            &jobs,
            1,
            || (),
            |(), job| {
                begun.fetch_add(1, Ordering::Relaxed);
                if *job == 7 { Err("no") } else { Ok(()) }
            },
        );
        assert_eq!((result, begun.into_inner()), (Err("no"), 8));
    }

    #[test]
    fn every_job_that_is_made_is_done_once() {
        for threads in [0, 1, 7] {
            let sum = AtomicU64::new(0);
            let result = feed(
                threads,
                || (),
                |(), job| {
                    sum.fetch_add(job, Ordering::Relaxed);
                    Ok::<(), ()>(())
                },
                |give| {
                    assert!((1..=50).all(give));
                    Ok(())
                },
            );
            assert_eq!((result, sum.into_inner()), (Ok(()), 1_275));
        }
        let failed = feed(2, || (), |(), ()| Ok(()), |_| Err("no"));
        assert_eq!(failed, Err("no"));
    }

    #[test]
    fn after_an_error_no_further_job_is_wanted() {
        let begun = AtomicU64::new(0);
        let each = |(): &mut (), job| {
            begun.fetch_add(1, Ordering::Relaxed);
            if job == 7 { Err("no") } else { Ok(()) }
        };
        let make = |give: &mut dyn FnMut(u64) -> bool| {
            assert!(!(0..1_000).all(give));
            Ok(())
        };
        assert_eq!(feed(1, || (), each, make), Err("no"));
        assert_eq!(begun.into_inner(), 8);
    }

    #[test]
    fn a_panic_while_jobs_are_made_goes_on_in_the_caller() {
        let panicked = std::panic::catch_unwind(|| {
            feed(
                2,
                || (),
                |(), job| {
                    assert!(job != 2, "a bug");
                    Ok::<(), ()>(())
                },
                |give| {
                    while give(2) {}
                    Ok(())
                },
            )
        });
        assert!(panicked.is_err());
    }

    #[test]
    fn a_panic_goes_on_in_the_caller() {
        for threads in [1, 4] {
            let panicked = std::panic::catch_unwind(|| {
                run(
                    &[1, 2, 3],
                    threads,
                    || (),
                    |(), job| {
                        assert!(*job != 2, "a bug");
                        Ok::<(), ()>(())
                    },
                )
            });
            assert!(panicked.is_err());
        }
    }
}
