//! Finding, starting, stopping and killing a server.

use crate::{Connection, SqlError, client::Client, spawn_bound};
use std::{
    env, fs, io,
    net::{TcpListener, UdpSocket},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};
use tempfile::TempDir;

/// An installed TDengine.
#[derive(Debug, Clone)]
pub struct Installation {
    taosd: PathBuf,
    library: PathBuf,
}

impl Installation {
    /// Looks in `TDENGINE_HOME`, then along `PATH`. The error says why there is none.
    pub fn find() -> Result<Self, String> {
        let homes: Vec<PathBuf> = match env::var_os("TDENGINE_HOME") {
            Some(home) => vec![home.into()],
            None => env::split_paths(&env::var_os("PATH").unwrap_or_default())
                .filter_map(|bin| bin.parent().map(Path::to_path_buf))
                .collect(),
        };
        homes
            .iter()
            .find_map(|home| Self::at(home))
            .unwrap_or_else(|| {
                Err("no taosd: neither TDENGINE_HOME nor PATH leads to one".to_owned())
            })
    }

    /// One of another version, which `TDENGINE_OTHER_HOME` names. The error says why there is none.
    pub fn other() -> Result<Self, String> {
        let home = env::var_os("TDENGINE_OTHER_HOME")
            .ok_or("TDENGINE_OTHER_HOME names no server of another version")?;
        let home = PathBuf::from(home);
        Self::at(&home).unwrap_or_else(|| {
            Err(format!(
                "TDENGINE_OTHER_HOME: no bin/taosd in {}",
                home.display()
            ))
        })
    }

    /// The one in this directory, if there is a server.
    fn at(home: &Path) -> Option<Result<Self, String>> {
        let taosd = home.join("bin/taosd");
        if !taosd.is_file() {
            return None;
        }
        let candidates = [home.join("lib"), home.join("driver"), "/usr/lib".into()];
        let library = candidates
            .iter()
            .map(|dir| dir.join("libtaos.so"))
            .find(|path| path.exists())
            .ok_or_else(|| format!("no libtaos.so beside {}", taosd.display()));
        Some(library.map(|library| Self { taosd, library }))
    }

    /// The directory that all of it lies in.
    pub fn home(&self) -> PathBuf {
        let home = self.taosd.parent().and_then(Path::parent);
        home.map(Into::into).unwrap_or_default()
    }

    /// The directory of its client library.
    pub fn library_dir(&self) -> PathBuf {
        self.library.parent().map(Into::into).unwrap_or_default()
    }

    /// Where one of its programs lies, if it has it.
    pub(crate) fn program(&self, name: &str) -> PathBuf {
        self.taosd.with_file_name(name)
    }

    /// The stock taosdump beside the server.
    pub fn stock_taosdump(&self) -> PathBuf {
        self.program("taosdump")
    }

    /// The patched taosdump, which `TAOSDUMP` names. The error says why there is none.
    pub fn patched_taosdump() -> Result<PathBuf, String> {
        let path = env::var_os("TAOSDUMP").ok_or("TAOSDUMP names no patched taosdump")?;
        let path = PathBuf::from(path);
        if path.is_file() {
            Ok(path)
        } else {
            Err(format!("TAOSDUMP: no file {}", path.display()))
        }
    }
}

/// A server with one dnode. Killed and its directory removed when dropped. If it never is, because the test process was
/// killed, the kernel kills the server all the same.
#[derive(Debug)]
pub struct Server {
    installation: Installation,
    client: Client,
    dir: TempDir,
    port: Port,
    process: Option<Child>,
}

/// A port for one server, also while that server is down. Not from the range the kernel gives to outgoing
/// connections: a client that tries to reach a server that is down would get its port now and then.
#[derive(Debug)]
struct Port {
    number: u16,
    /// The server speaks TCP only; this keeps the other test servers away.
    _reservation: UdpSocket,
}

impl Port {
    fn reserve() -> io::Result<Self> {
        let start = 20_000 + (std::process::id() % 10_000) as u16;
        for number in (start..30_000).chain(20_000..start) {
            let Ok(_reservation) = UdpSocket::bind(("127.0.0.1", number)) else {
                continue;
            };
            if TcpListener::bind(("127.0.0.1", number)).is_ok() {
                return Ok(Self {
                    number,
                    _reservation,
                });
            }
        }
        Err(io::Error::other("no free port from 20000 to 29999"))
    }
}

/// How long a server may take to start.
const START: Duration = Duration::from_secs(60);

impl Server {
    /// Starts a server and waits until it answers.
    pub fn start(installation: &Installation) -> io::Result<Self> {
        Self::start_with(installation, "")
    }

    /// The same with lines of its own at the beginning of `taos.cfg`, in which `ROOT` is the server's directory.
    pub fn start_with(installation: &Installation, lines: &str) -> io::Result<Self> {
        let mut server = Self::prepare(installation, None, lines)?;
        server.restart()?;
        Ok(server)
    }

    /// Starts a server as a further dnode of another's cluster, and waits until that counts it as ready.
    pub fn join(installation: &Installation, first: &Self) -> io::Result<Self> {
        let mut server = Self::prepare(installation, Some(first), "")?;
        let create = format!("create dnode '{}'", server.endpoint());
        first
            .connect()
            .and_then(|connection| connection.execute(&create))
            .map_err(io::Error::other)?;
        server.restart()?;
        Ok(server)
    }

    /// The directories and the configuration of a server that is not started yet.
    fn prepare(installation: &Installation, first: Option<&Self>, lines: &str) -> io::Result<Self> {
        let dir = tempfile::Builder::new().prefix("taosd-").tempdir()?;
        let port = Port::reserve()?;
        for sub in ["data", "log", "cfg", "temp"] {
            fs::create_dir(dir.path().join(sub))?;
        }
        let (root, number) = (dir.path().display(), port.number);
        let first = first.map_or(number, Self::port);
        let lines = lines.replace("ROOT", &root.to_string());
        fs::write(
            dir.path().join("cfg/taos.cfg"),
            format!(
                "{lines}firstEp localhost:{first}\nfqdn localhost\nserverPort {number}\ndataDir {root}/data\n\
                 logDir {root}/log\ntempDir {root}/temp\nmonitor 0\naudit 0\ntelemetryReporting 0\n\
                 crashReporting 0\nsupportVnodes 64\nminimalDataDirGB 0.1\nminimalLogDirGB 0.1\n\
                 minimalTmpDirGB 0.1\ndebugFlag 131\ntimezone UTC\ncharset UTF-8\nlocale C.UTF-8\n"
            ),
        )?;
        let client = Client::load(&installation.library, &dir.path().join("cfg"))?;
        Ok(Self {
            installation: installation.clone(),
            client,
            dir,
            port,
            process: None,
        })
    }

    /// Its name among the dnodes.
    fn endpoint(&self) -> String {
        format!("localhost:{}", self.port.number)
    }

    /// Starts the server again after [`Self::stop`] or [`Self::kill`]. The error is [`io::ErrorKind::InvalidData`] if
    /// the server says that it cannot open its own WAL, which happens after kills and proves nothing about a backup.
    pub fn restart(&mut self) -> io::Result<()> {
        let log = fs::File::create(self.dir.path().join("taosd.out"))?;
        let mut command = Command::new(&self.installation.taosd);
        command
            .arg("-c")
            .arg(self.dir.path().join("cfg"))
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        self.process = Some(spawn_bound(command)?);
        let deadline = Instant::now() + START;
        let status = format!(
            "select status from information_schema.ins_dnodes where endpoint = '{}'",
            self.endpoint()
        );
        loop {
            let ready = self.connect().and_then(|connection| {
                let rows = connection.query(&status)?;
                Ok(rows.iter().any(|row| row[0] == "ready"))
            });
            match ready {
                Ok(true) => return Ok(()),
                _ if self.has_crashed() => return Err(self.last_words()?),
                _ if Instant::now() > deadline => {
                    return Err(io::Error::other(format!(
                        "taosd did not get ready: {ready:?}"
                    )));
                }
                _ => thread::sleep(Duration::from_millis(200)),
            }
        }
    }

    /// What it said when it ended while starting.
    fn last_words(&self) -> io::Result<io::Error> {
        let said = fs::read_to_string(self.dir.path().join("taosd.out"))?;
        let kind = match said.contains("WAL log incomplete") {
            true => io::ErrorKind::InvalidData,
            false => io::ErrorKind::Other,
        };
        let errors: Vec<_> = said.lines().filter(|l| l.contains(" ERROR ")).collect();
        let text = format!("taosd ended while starting:\n{}", errors.join("\n"));
        Ok(io::Error::new(kind, text))
    }

    /// Stops the server as an operator would, and kills it if it does not stop.
    pub fn stop(&mut self) {
        if let Some(mut process) = self.process.take() {
            let _ = Command::new("kill").arg(process.id().to_string()).status();
            let deadline = Instant::now() + Duration::from_secs(30);
            while Instant::now() < deadline {
                if matches!(process.try_wait(), Ok(Some(_))) {
                    return;
                }
                thread::sleep(Duration::from_millis(50));
            }
            let _ = process.kill();
            let _ = process.wait();
        }
    }

    /// Kills the server at once, as a crash of the process would.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            let _ = process.kill();
            let _ = process.wait();
        }
    }

    /// Stops it in its tracks: it keeps its sockets and answers nothing until [`Self::thaw`].
    pub fn freeze(&self) {
        self.signal(libc::SIGSTOP);
    }

    /// Lets it go on after [`Self::freeze`].
    pub fn thaw(&self) {
        self.signal(libc::SIGCONT);
    }

    fn signal(&self, signal: i32) {
        let id = self.process.as_ref().map(Child::id);
        if let Some(id) = id.and_then(|id| i32::try_from(id).ok()) {
            // SAFETY: the child has not been waited for, so the id is still its own.
            unsafe { libc::kill(id, signal) };
        }
    }

    /// Whether it has ended by itself.
    pub fn has_crashed(&mut self) -> bool {
        let ended = |process: &mut Child| process.try_wait().is_ok_and(|status| status.is_some());
        self.process.as_mut().is_some_and(ended)
    }

    /// Runs the benchmark program of the installation against the server; false where there is none.
    pub fn benchmark(&self, arguments: &[&str]) -> io::Result<bool> {
        let program = self.installation.program("taosBenchmark");
        if !program.is_file() {
            return Ok(false);
        }
        let output = self.program(&program).args(arguments).output()?;
        if output.status.success() {
            Ok(true)
        } else {
            Err(io::Error::other(
                String::from_utf8_lossy(&output.stderr).into_owned(),
            ))
        }
    }

    /// A client program that will speak to the server, in the server's directory.
    pub fn program(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command
            .arg("-c")
            .arg(self.dir.path().join("cfg"))
            .args(["-h", "localhost", "-P", &self.port.number.to_string()])
            .current_dir(self.dir.path())
            .stdin(Stdio::null());
        if let Some(libraries) = self.installation.library.parent() {
            command.env("LD_LIBRARY_PATH", libraries);
        }
        command
    }

    /// The time that the server has had on the processor since it was started, in user and kernel mode.
    pub fn cpu(&self) -> io::Result<Duration> {
        let id = self.process.as_ref().map_or(0, Child::id);
        let stat = fs::read_to_string(format!("/proc/{id}/stat"))?;
        // The name of the program, in parentheses, may hold anything.
        let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields);
        let ticks = fields.split_whitespace().skip(11).take(2);
        let ticks: u64 = ticks.filter_map(|ticks| ticks.parse::<u64>().ok()).sum();
        // USER_HZ is 100 on every Linux of today.
        Ok(Duration::from_millis(10 * ticks))
    }

    /// What it was started from.
    pub fn installation(&self) -> &Installation {
        &self.installation
    }

    /// Its dataDir.
    pub fn data_dir(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// The directory of its taos.cfg.
    pub fn config_dir(&self) -> PathBuf {
        self.dir.path().join("cfg")
    }

    /// The port it listens on.
    pub fn port(&self) -> u16 {
        self.port.number
    }

    /// A new connection.
    pub fn connect(&self) -> Result<Connection, SqlError> {
        self.client.connect(self.port.number)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}
