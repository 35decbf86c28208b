//! A cluster of three dnodes on this machine, each with a directory of its own, and each with an mnode: any of them may
//! be killed or frozen, and the other two go on.

use crate::{Connection, Installation, Server, SqlError};
use std::{
    io,
    path::PathBuf,
    thread,
    time::{Duration, Instant},
};

/// Three servers that are one cluster. All are killed when it is dropped.
#[derive(Debug)]
pub struct Cluster {
    /// The servers; the dnode's number is the place plus one.
    pub servers: Vec<Server>,
}

/// How long the cluster may take for what is waited for.
const WAIT: Duration = Duration::from_secs(90);

impl Cluster {
    /// Starts three servers and waits until each is a dnode with an mnode.
    pub fn start(installation: &Installation) -> io::Result<Self> {
        let first = Server::start(installation)?;
        let second = Server::join(installation, &first)?;
        let third = Server::join(installation, &first)?;
        let cluster = Self {
            servers: vec![first, second, third],
        };
        let c = cluster.connect().map_err(io::Error::other)?;
        for dnode in [2, 3] {
            let create = format!("create mnode on dnode {dnode}");
            until("its mnodes are there", || {
                c.execute(&create).map(|_| true).or(Ok(false))
            })?;
            until("its mnodes are ready", || {
                let roles = c.query("select role from information_schema.ins_mnodes")?;
                let voting = |role: &&Vec<String>| role[0] == "leader" || role[0] == "follower";
                Ok(roles.iter().filter(voting).count() == dnode)
            })?;
        }
        Ok(cluster)
    }

    /// Waits until each server counts as ready: one that was frozen or started takes a while.
    pub fn ready(&self, c: &Connection) -> io::Result<()> {
        until("its dnodes are ready", || {
            let ready = "select id from information_schema.ins_dnodes where status = 'ready'";
            Ok(c.query(ready)?.len() == self.servers.len())
        })
    }

    /// A connection to whichever server answers.
    pub fn connect(&self) -> Result<Connection, SqlError> {
        let mut last = None;
        for server in &self.servers {
            match server.connect() {
                Ok(connection) => return Ok(connection),
                Err(error) => last = Some(error),
            }
        }
        Err(last.unwrap_or(SqlError {
            code: 0,
            text: "a cluster without servers".to_owned(),
        }))
    }

    /// The data directories of all servers.
    pub fn data_dirs(&self) -> Vec<PathBuf> {
        self.servers.iter().map(Server::data_dir).collect()
    }

    /// A server that leads neither the mnodes nor a vgroup of the database: when it stops, nobody has to wait for an
    /// election.
    pub fn follower(&self, c: &Connection, database: &str) -> io::Result<usize> {
        let mut leaders = self.leaders(c, database)?;
        until("its mnodes have a leader", || {
            let mnodes =
                c.query("select id from information_schema.ins_mnodes where role = 'leader'")?;
            leaders.extend(mnodes.iter().filter_map(|row| row[0].parse::<usize>().ok()));
            Ok(!mnodes.is_empty())
        })?;
        (0..self.servers.len())
            .find(|place| !leaders.contains(&(place + 1)))
            .ok_or_else(|| io::Error::other(format!("each dnode leads something: {leaders:?}")))
    }

    /// The dnodes that lead the vgroups of a database, once each vgroup has a leader that takes requests.
    pub fn leaders(&self, c: &Connection, database: &str) -> io::Result<Vec<usize>> {
        let query = format!(
            "select v1_dnode, v1_status, v2_dnode, v2_status, v3_dnode, v3_status \
             from information_schema.ins_vgroups where db_name = '{database}'"
        );
        let mut leaders = Vec::new();
        until("its vgroups have leaders", || {
            let vgroups = c.query(&query)?;
            leaders = vgroups
                .iter()
                .filter_map(|row| row.chunks(2).find(|replica| replica[1] == "leader"))
                .filter_map(|leader| leader[0].parse().ok())
                .collect();
            Ok(!vgroups.is_empty() && leaders.len() == vgroups.len())
        })?;
        Ok(leaders)
    }
}

/// Waits until something holds.
pub fn until(what: &str, mut holds: impl FnMut() -> Result<bool, SqlError>) -> io::Result<()> {
    let deadline = Instant::now() + WAIT;
    loop {
        let answer = holds();
        if matches!(answer, Ok(true)) {
            return Ok(());
        }
        if Instant::now() > deadline {
            let text = format!("the cluster was waited for {WAIT:?} until {what}: {answer:?}");
            return Err(io::Error::other(text));
        }
        thread::sleep(Duration::from_millis(100));
    }
}
