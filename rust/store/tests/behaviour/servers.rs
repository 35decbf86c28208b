//! S3 servers of their own, each in a directory that goes when they end.

use std::{
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};
use tempfile::TempDir;

/// A server that runs until it is dropped.
pub(crate) struct Server {
    child: Child,
    _dir: TempDir,
    /// Where it listens.
    pub(crate) endpoint: String,
}

/// What must be in the environment of a process that talks to a server.
pub(crate) const KEYS: [(&str, &str); 2] = [
    ("AWS_ACCESS_KEY_ID", "test"),
    ("AWS_SECRET_ACCESS_KEY", "testtest"),
];

/// Waited for at most until it answers.
const START: Duration = Duration::from_secs(30);

impl Server {
    pub(crate) fn moto() -> Result<Self, String> {
        let server = Self::start("python", &|command, port, _| {
            command.args(["-m", "moto.server", "-H", "127.0.0.1", "-p"]);
            command.arg(port.to_string());
        })?;
        server.make_bucket()?;
        Ok(server)
    }

    pub(crate) fn rclone() -> Result<Self, String> {
        Self::start("rclone", &|command, port, dir| {
            // A directory of its root is a bucket.
            let _ = std::fs::create_dir(dir.join("test"));
            command.args(["serve", "s3", "--auth-key", "test,testtest", "--addr"]);
            command.arg(format!("127.0.0.1:{port}")).arg(dir);
        })
    }

    fn start(program: &str, arguments: &dyn Fn(&mut Command, u16, &Path)) -> Result<Self, String> {
        let bin = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/python/bin");
        let program = bin.join(program);
        let dir = tempfile::tempdir().map_err(|error| error.to_string())?;
        let port = TcpListener::bind("127.0.0.1:0")
            .and_then(|listener| listener.local_addr())
            .map_err(|error| error.to_string())?
            .port();
        let mut command = Command::new(&program);
        arguments(&mut command, port, dir.path());
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| {
                format!(
                    "no {} ({error}); ci/test --prepare installs it",
                    program.display()
                )
            })?;
        let mut server = Self {
            child,
            _dir: dir,
            endpoint: format!("http://127.0.0.1:{port}"),
        };
        let until = Instant::now() + START;
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            let ended = server.child.try_wait().map_err(|error| error.to_string())?;
            if let Some(status) = ended {
                return Err(format!(
                    "{} ended with {status}; ci/test --prepare installs its packages",
                    program.display()
                ));
            }
            if Instant::now() > until {
                return Err(format!("{} does not answer", program.display()));
            }
            thread::sleep(Duration::from_millis(50));
        }
        Ok(server)
    }

    /// The server takes any request without a signature.
    fn make_bucket(&self) -> Result<(), String> {
        let address = self.endpoint.trim_start_matches("http://");
        let ask = || {
            let mut stream = TcpStream::connect(address)?;
            let request = format!(
                "PUT /test HTTP/1.1\r\nHost: {address}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
            );
            stream.write_all(request.as_bytes())?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer)?;
            Ok::<_, std::io::Error>(answer)
        };
        match ask() {
            Ok(answer) if answer.starts_with("HTTP/1.1 200") => Ok(()),
            other => Err(format!("no bucket could be made: {other:?}")),
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
