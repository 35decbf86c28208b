//! One database, the links made of it, and what it held when each was made.

use crate::{Connection, Content, Installation, Run, Server, SqlError, Taosdump, quoted};
use std::{
    path::{Path, PathBuf},
    sync::{
        Mutex,
        atomic::{AtomicU32, Ordering},
    },
};
use tempfile::TempDir;

/// A database that is changed, backed up, restored and compared. It and what was restored of it are dropped in the
/// end.
pub struct Workbench<'a> {
    /// The server it lives on.
    pub server: &'a Server,
    /// The tool under test.
    pub taosdump: &'a Taosdump,
    /// A connection to the server.
    pub c: Connection,
    /// Its name.
    pub database: String,
    /// Links from the first to the last.
    pub links: Vec<PathBuf>,
    /// What the database held when each link was made.
    pub contents: Vec<Content>,
    dir: TempDir,
}

impl Drop for Workbench<'_> {
    fn drop(&mut self) {
        if self.database.is_empty() {
            return;
        }
        for name in [&self.database, &self.target()] {
            let _ = self
                .c
                .execute(&format!("drop database if exists {}", quoted(name)));
        }
    }
}

impl Workbench<'_> {
    /// Runs a test on a server that the tests of a process share; the first one starts it. Its database is called `kind`
    /// and a number.
    pub fn run_on(
        shared: &Mutex<Option<Server>>,
        installation: &Installation,
        taosdump: &Taosdump,
        kind: &str,
        test: impl FnOnce(Workbench<'_>) -> Result<(), String>,
    ) -> Result<(), String> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let mut server = shared
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        if server.is_none() {
            *server = Some(Server::start(installation).map_err(|e| e.to_string())?);
        }
        let Some(server) = server.as_ref() else {
            return Ok(());
        };
        let n = COUNT.fetch_add(1, Ordering::SeqCst);
        test(Workbench::new(server, taosdump, &format!("{kind}{n}"))?)
    }
}

impl<'a> Workbench<'a> {
    /// Begins with no database.
    pub fn new(server: &'a Server, taosdump: &'a Taosdump, database: &str) -> Result<Self, String> {
        Ok(Self {
            server,
            taosdump,
            c: server.connect().map_err(|e| e.to_string())?,
            database: database.to_owned(),
            links: Vec::new(),
            contents: Vec::new(),
            dir: tempfile::tempdir().map_err(|e| e.to_string())?,
        })
    }

    /// Leaves the database where it is and gives its name.
    pub fn keep(mut self) -> String {
        std::mem::take(&mut self.database)
    }

    /// A path in a directory of its own.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The name its restored twin gets.
    pub fn target(&self) -> String {
        format!("{}_restored", self.database)
    }

    /// Runs a statement, in which `$` is the database.
    pub fn sql(&self, sql: &str) -> Result<i64, SqlError> {
        self.c.execute(&sql.replace('$', &quoted(&self.database)))
    }

    /// Asks; `$` stands for the database.
    pub fn query(&self, sql: &str) -> Result<Vec<Vec<String>>, SqlError> {
        self.c.query(&sql.replace('$', &quoted(&self.database)))
    }

    /// What the database holds now.
    pub fn content(&self) -> Result<Content, SqlError> {
        Content::read(&self.c, &self.database)
    }

    /// Runs the tool for the next link into `out`, without any judgement.
    pub fn try_link(&self, out: &Path, flags: &[&str]) -> Result<Run, String> {
        let base = self.links.last().map(PathBuf::as_path);
        let databases = [self.database.as_str()];
        let mut command = self
            .taosdump
            .link_command(self.server, &databases, base, out);
        Run::of(command.args(flags)).map_err(|e| e.to_string())
    }

    /// Makes a link that follows none and is not part of the chain, and must succeed.
    pub fn link_beside(&self, out: &Path, flags: &[&str]) -> Result<Run, String> {
        let databases = [self.database.as_str()];
        let mut command = self
            .taosdump
            .link_command(self.server, &databases, None, out);
        let run = Run::of(command.args(flags)).map_err(|e| e.to_string())?;
        run.expect_code(0)
    }

    /// Makes the next link, which must succeed.
    pub fn link(&mut self, flags: &[&str]) -> Result<Run, String> {
        let out = self.path(&format!("link{}", self.links.len()));
        let run = self.try_link(&out, flags)?.expect_code(0)?;
        self.contents
            .push(self.content().map_err(|e| e.to_string())?);
        self.links.push(out);
        Ok(run)
    }

    /// Runs the tool to restore links under the target's name, without any judgement.
    pub fn try_restore<P: AsRef<Path>>(&self, links: &[P]) -> Result<Run, String> {
        let target = self.target();
        let rename = [(self.database.as_str(), target.as_str())];
        let mut command = self.taosdump.restore_command(self.server, links, &rename);
        Run::of(&mut command).map_err(|e| e.to_string())
    }

    /// Restores links, which must succeed and give what the database held when the last of them was made.
    pub fn restore(&self, links: std::ops::Range<usize>) -> Result<(), String> {
        let last = links.end - 1;
        self.try_restore(&self.links[links.clone()])?
            .expect_code(0)
            .map_err(|e| format!("restore of {links:?}: {e}"))?;
        self.expect_target(&self.contents[last])
            .map_err(|e| format!("restored {links:?}: {e}"))
    }

    /// The target must hold exactly this.
    pub fn expect_target(&self, content: &Content) -> Result<(), String> {
        let restored = Content::read(&self.c, &self.target()).map_err(|e| e.to_string())?;
        match content.differences(&restored, 10) {
            differences if differences.is_empty() => Ok(()),
            differences => Err(format!("{differences:#?}")),
        }
    }

    /// Whether the target is there.
    pub fn target_exists(&self) -> Result<bool, SqlError> {
        let databases = self
            .c
            .query("select name from information_schema.ins_databases")?;
        Ok(databases.concat().contains(&self.target()))
    }

    /// Drops the target.
    pub fn drop_target(&self) -> Result<(), SqlError> {
        let sql = format!("drop database if exists {}", quoted(&self.target()));
        self.c.execute(&sql).map(|_| ())
    }

    /// Restores the chain at once and link by link; both must give every link's content.
    pub fn restore_both_ways(&self) -> Result<(), String> {
        self.restore(0..self.links.len())?;
        self.drop_target().map_err(|e| e.to_string())?;
        (0..self.links.len()).try_for_each(|n| self.restore(n..n + 1))
    }
}
