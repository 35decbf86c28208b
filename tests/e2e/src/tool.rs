//! taosdump as an operator runs it: its exit code, its words and what it cost.

use crate::{Installation, Server};
use std::{
    env,
    ffi::OsStr,
    fs::{self, File},
    io::{self, Read, Seek},
    mem,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

/// A taosdump.
#[derive(Debug, Clone)]
pub struct Taosdump {
    program: PathBuf,
    library_dir: PathBuf,
}

/// What became of one run.
#[derive(Debug, Clone)]
pub struct Run {
    /// Its exit code; none if a signal ended it.
    pub code: Option<i32>,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
    /// From start to end.
    pub wall: Duration,
    /// Time on the processor, in user and kernel mode.
    pub cpu: Duration,
    /// The most memory it had, in bytes.
    pub peak_memory: u64,
}

/// A taosdump that is still running. Killed when dropped.
#[derive(Debug)]
pub struct Running {
    child: Child,
    started: Instant,
    stdout: File,
    stderr: File,
}

impl Taosdump {
    /// The one with `--incremental`: `TAOSDUMP`, or along `PATH`. The error says why there is none.
    pub fn find(installation: &Installation) -> Result<Self, String> {
        let library_dir = installation.library_dir();
        let named = env::var_os("TAOSDUMP").map(PathBuf::from);
        let candidates = match &named {
            Some(program) => vec![program.clone()],
            None => env::split_paths(&env::var_os("PATH").unwrap_or_default())
                .map(|dir| dir.join("taosdump"))
                .filter(|path| path.is_file())
                .collect(),
        };
        for program in candidates {
            let help = Command::new(&program)
                .arg("--help")
                .env("LD_LIBRARY_PATH", &library_dir)
                .output()
                .map_err(|e| format!("{}: {e}", program.display()))?;
            if String::from_utf8_lossy(&help.stdout).contains("--incremental") {
                return Ok(Self {
                    program,
                    library_dir,
                });
            }
        }
        Err(match named {
            Some(program) => format!("{} has no --incremental", program.display()),
            None => "no taosdump with --incremental: neither TAOSDUMP nor PATH leads to one".into(),
        })
    }

    /// The server's installation, and the one with `--incremental`. Without them it is printed that tests are skipped,
    /// and why.
    pub fn installed() -> Result<(Installation, Self), String> {
        let found = Installation::find().and_then(|installation| {
            let taosdump = Self::find(&installation)?;
            Ok((installation, taosdump))
        });
        found.inspect_err(|reason| eprintln!("skipped: {reason}"))
    }

    /// A patched one of another version, to compare with: the program that the environment variable `name` names.
    pub fn named_by(name: &str, installation: &Installation) -> Result<Self, String> {
        let program = env::var_os(name).ok_or(format!("{name} names no patched taosdump"))?;
        Ok(Self {
            program: program.into(),
            library_dir: installation.library_dir(),
        })
    }

    /// The unpatched one of the installation.
    pub fn stock(installation: &Installation) -> Result<Self, String> {
        let program = installation.program("taosdump");
        if program.is_file() {
            let library_dir = installation.library_dir();
            Ok(Self {
                program,
                library_dir,
            })
        } else {
            Err(format!("no {}", program.display()))
        }
    }

    /// The command with all that says where the server is. It writes what it leaves behind into `work_dir`.
    pub fn command(&self, server: &Server, work_dir: &Path) -> Command {
        let mut command = self.configured_command(server, work_dir);
        command.args(["-h", "localhost", "-P", &server.port().to_string()]);
        command
    }

    /// The command with nothing but the directory of taos.cfg, where the port stands.
    pub fn configured_command(&self, server: &Server, work_dir: &Path) -> Command {
        let mut command = Command::new(&self.program);
        command
            .env("LD_LIBRARY_PATH", &self.library_dir)
            .arg("-c")
            .arg(server.config_dir())
            .current_dir(work_dir);
        command
    }

    /// The command that makes a link: the first of a chain, or the one behind `base`.
    pub fn link_command(
        &self,
        server: &Server,
        databases: &[&str],
        base: Option<&Path>,
        out: &Path,
    ) -> Command {
        let mut command = self.command(server, out.parent().unwrap_or(out));
        command
            .arg("--incremental")
            .arg("--data-dir")
            .arg(server.data_dir());
        if let Some(base) = base {
            command.arg("--base").arg(base);
        }
        if databases.is_empty() {
            command.arg("-A");
        } else {
            command.args(["-D", &databases.join(",")]);
        }
        // The stock options demand that the directory is there.
        let _ = fs::create_dir(out);
        command.arg("-o").arg(out);
        command
    }

    /// The command that restores links, oldest first, each database under its new name.
    pub fn restore_command<P: AsRef<Path>>(
        &self,
        server: &Server,
        links: &[P],
        rename: &[(&str, &str)],
    ) -> Command {
        let work_dir = links.first().and_then(|link| link.as_ref().parent());
        let mut command = self.command(server, work_dir.unwrap_or(Path::new(".")));
        command.arg("--incremental");
        for link in links {
            command.arg("-i").arg(link.as_ref());
        }
        if !rename.is_empty() {
            let names: Vec<String> = rename.iter().map(|(a, b)| format!("{a}={b}")).collect();
            command.arg("-W").arg(names.join("|"));
        }
        command
    }

    /// Runs it to its end.
    pub fn run<A: AsRef<OsStr>>(
        &self,
        server: &Server,
        work_dir: &Path,
        arguments: impl IntoIterator<Item = A>,
    ) -> io::Result<Run> {
        let mut command = self.command(server, work_dir);
        Running::start(command.args(arguments))?.wait()
    }
}

impl Running {
    /// Whether it has not ended yet.
    pub fn is_running(&self) -> bool {
        let options = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
        // SAFETY: a siginfo is plain numbers; the child stays to be waited for.
        unsafe {
            let mut info: libc::siginfo_t = mem::zeroed();
            libc::waitid(libc::P_PID, self.child.id(), &raw mut info, options) == 0
                && info.si_pid() == 0
        }
    }

    /// Starts a command.
    pub fn start(command: &mut Command) -> io::Result<Self> {
        // Files, not pipes: nobody has to read them while it runs.
        let (stdout, stderr) = (tempfile::tempfile()?, tempfile::tempfile()?);
        let started = Instant::now();
        let child = command
            .stdin(Stdio::null())
            .stdout(stdout.try_clone()?)
            .stderr(stderr.try_clone()?)
            .spawn()?;
        Ok(Self {
            child,
            started,
            stdout,
            stderr,
        })
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: i32) {
        if let Ok(pid) = i32::try_from(self.child.id()) {
            // SAFETY: the child has not been waited for, so the id is still its own.
            unsafe { libc::kill(pid, signal) };
        }
    }

    /// Waits for its end.
    pub fn wait(mut self) -> io::Result<Run> {
        let (mut status, pid) = (0, self.child.id() as i32);
        // SAFETY: a usage is plain numbers; both places live through the call.
        let usage = unsafe {
            let mut usage: libc::rusage = mem::zeroed();
            while libc::wait4(pid, &raw mut status, 0, &raw mut usage) < 0 {
                let error = io::Error::last_os_error();
                if error.kind() != io::ErrorKind::Interrupted {
                    return Err(error);
                }
            }
            usage
        };
        let wall = self.started.elapsed();
        let time = |t: libc::timeval| Duration::new(t.tv_sec as u64, t.tv_usec as u32 * 1_000);
        let mut text = [String::new(), String::new()];
        for (file, text) in [&mut self.stdout, &mut self.stderr]
            .into_iter()
            .zip(&mut text)
        {
            let mut bytes = Vec::new();
            file.rewind()?;
            file.read_to_end(&mut bytes)?;
            *text = String::from_utf8_lossy(&bytes).into_owned();
        }
        let [stdout, stderr] = text;
        Ok(Run {
            code: libc::WIFEXITED(status).then(|| libc::WEXITSTATUS(status)),
            stdout,
            stderr,
            wall,
            cpu: time(usage.ru_utime) + time(usage.ru_stime),
            peak_memory: usage.ru_maxrss as u64 * 1_024,
        })
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // After `wait` there is no child any more, and its id may be another's.
        let _ = self
            .child
            .try_wait()
            .map(|ended| ended.is_none() && self.child.kill().is_ok());
    }
}

impl Run {
    /// Starts a command and waits for its end.
    pub fn of(command: &mut Command) -> io::Result<Self> {
        Running::start(command)?.wait()
    }

    /// Both outputs, for messages of tests.
    pub fn output(&self) -> String {
        format!("exit code {:?}\n{}{}", self.code, self.stdout, self.stderr)
    }

    /// An error with the output unless it ended with this code.
    pub fn expect_code(self, code: i32) -> Result<Self, String> {
        if self.code == Some(code) {
            Ok(self)
        } else {
            Err(format!("exit code {code} was expected: {}", self.output()))
        }
    }
}
