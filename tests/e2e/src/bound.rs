//! Processes that end with this one, however it ends.

use std::{
    io,
    os::unix::process::CommandExt as _,
    process::{Child, Command},
    sync::{OnceLock, mpsc},
    thread,
};

/// What is asked of the thread that starts processes.
type Request = (Command, mpsc::Sender<io::Result<Child>>);

/// Starts a process that the kernel kills when this one ends: also when this one is killed, or ends while a static
/// still holds the child.
///
/// The kernel kills it when the *thread* that started it ends, and a test has a thread of its own, which a shared server
/// outlives. So one thread, which lasts as long as the process, starts them all.
pub fn spawn_bound(command: Command) -> io::Result<Child> {
    static STARTER: OnceLock<mpsc::Sender<Request>> = OnceLock::new();
    let starter = STARTER.get_or_init(|| {
        let (starter, requests) = mpsc::channel::<Request>();
        thread::spawn(move || {
            for (command, answer) in requests {
                // Nobody who asked can have gone: they wait.
                let _ = answer.send(spawn(command));
            }
        });
        starter
    });
    let (answer, answered) = mpsc::channel();
    let gone = |_| io::Error::other("the thread that starts processes has ended");
    starter
        .send((command, answer))
        .map_err(|_| gone(mpsc::RecvError))?;
    answered.recv().map_err(gone)?
}

fn spawn(mut command: Command) -> io::Result<Child> {
    let parent = std::process::id();
    let bind = move || {
        // SAFETY: both calls take and give numbers only, and may be made between fork and exec.
        let (bound, parent_now) = unsafe {
            (
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL),
                libc::getppid(),
            )
        };
        if bound != 0 {
            return Err(io::Error::last_os_error());
        }
        // It ended before the call: nobody would be told any more.
        if u32::try_from(parent_now) != Ok(parent) {
            return Err(io::Error::other(
                "the process that starts this one has ended",
            ));
        }
        Ok(())
    };
    // SAFETY: the closure makes two system calls and touches no memory of the parent.
    unsafe { command.pre_exec(bind) }.spawn()
}
