//! Finding vnodes and their files in one or more data directories (tiers).

use crate::{CaptureError, wal_segments::segment_names};
use model::{Version, VgId};
use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};
use tdfiles::{FormatError, vnode_json::VnodeJson, vnodes_json::VnodesJson};

/// The data directories of one or more servers, as in `dataDir` of their taos.cfg.
#[derive(Debug, Clone)]
pub struct DataDirs {
    dirs: Vec<PathBuf>,
}

/// The directories of one vnode: the primary one with WAL and metadata, and its TSDB directories on every tier.
#[derive(Debug, Clone)]
pub struct VnodeDir {
    /// The vgroup it serves.
    pub vgroup: VgId,
    /// `…/vnode/vnode<N>`, where `vnode.json` is.
    pub primary: PathBuf,
    /// `…/vnode/vnode<N>/tsdb` in every data directory that has one, the primary one first.
    pub tsdb: Vec<PathBuf>,
    /// The version up to which the replicas are known to agree on this one's log, if somebody has found that out: with
    /// several replicas the files alone give a lower bound only.
    pub agreed: Option<Version>,
}

impl DataDirs {
    /// Takes the directories; each must hold a `vnode` directory.
    pub fn new(dirs: Vec<PathBuf>) -> Result<Self, CaptureError> {
        for dir in &dirs {
            let not = |problem: &str| {
                Err(CaptureError::NotADataDir {
                    path: dir.clone(),
                    problem: problem.to_owned(),
                })
            };
            match fs::metadata(dir) {
                Ok(meta) if !meta.is_dir() => return not("not a directory"),
                Ok(_) => {}
                Err(e) if e.kind() == io::ErrorKind::NotFound => return not("no such directory"),
                Err(e) => return Err(CaptureError::io(dir)(e)),
            }
            match fs::metadata(dir.join("vnode")) {
                Ok(meta) if meta.is_dir() => {}
                Err(e) if e.kind() != io::ErrorKind::NotFound => {
                    return Err(CaptureError::io(dir.join("vnode"))(e));
                }
                _ => return not("no vnode directory in it"),
            }
        }
        Ok(Self { dirs })
    }

    /// The vnodes in them, ascending by vgroup: one for each. Those that the server is about to drop are left out.
    pub fn vnodes(&self) -> Result<Vec<VnodeDir>, CaptureError> {
        let vnodes = self.replicas()?;
        no_vgroup_twice(&vnodes)?;
        Ok(vnodes)
    }

    /// The vnodes in them, ascending by vgroup, several of a vgroup where several servers serve it. Those that a server
    /// is about to drop are left out.
    pub fn replicas(&self) -> Result<Vec<VnodeDir>, CaptureError> {
        let (vnodes, problems) = self.replicas_that_can_be_read()?;
        match problems.into_iter().next() {
            None => Ok(vnodes),
            Some(problem) => Err(problem),
        }
    }

    /// Those of [`DataDirs::replicas`] that are there, and what is wrong with the others and with `vnodes.json`. Where that is
    /// damaged, nobody knows which vnodes the server is about to drop, and they count as well.
    pub fn replicas_that_can_be_read(
        &self,
    ) -> Result<(Vec<VnodeDir>, Vec<CaptureError>), CaptureError> {
        let (mut vnodes, mut problems) = (Vec::new(), Vec::new());
        for server in servers(&self.dirs, &mut problems)? {
            vnodes.extend(server.vnodes(&mut problems));
        }
        vnodes.sort_by_key(|vnode| vnode.vgroup);
        Ok((vnodes, problems))
    }

    /// The vgroups that a server counts among its vnodes, and that have no directory. A `vnodes.json` that is damaged tells none.
    pub fn lost(&self) -> Result<Vec<VgId>, CaptureError> {
        let mut lost = Vec::new();
        for dir in &self.dirs {
            let listed = Listed::read(dir, &mut Vec::new())?;
            let live = listed.known.into_iter().flat_map(|known| known.live);
            let is_there = |vgroup: &VgId| {
                listed.primary.contains_key(vgroup) || listed.parts.contains_key(vgroup)
            };
            lost.extend(live.filter(|vgroup| !is_there(vgroup)));
        }
        Ok(lost)
    }
}

/// That no vgroup is served by two of these.
///
/// # Errors
/// It names both.
pub fn no_vgroup_twice(vnodes: &[VnodeDir]) -> Result<(), CaptureError> {
    for (n, vnode) in vnodes.iter().enumerate() {
        let later = vnodes.get(n + 1..).unwrap_or_default();
        if let Some(other) = later.iter().find(|other| other.vgroup == vnode.vgroup) {
            return Err(CaptureError::SameVnodeTwice {
                first: vnode.primary.clone(),
                second: other.primary.clone(),
            });
        }
    }
    Ok(())
}

/// A data directory, as far as its listing tells it.
struct Listed {
    /// The vnode directories that have a `vnode.json`.
    primary: BTreeMap<VgId, PathBuf>,
    /// Those that have none: parts of vnodes on a tier.
    parts: BTreeMap<VgId, PathBuf>,
    known: Option<VnodesJson>,
}

impl Listed {
    fn read(dir: &Path, problems: &mut Vec<CaptureError>) -> Result<Self, CaptureError> {
        let root = dir.join("vnode");
        let known = vnodes_json(&root.join("vnodes.json"));
        let known = known.unwrap_or_else(|problem| {
            problems.push(problem);
            None
        });
        let mut listed = Self {
            primary: BTreeMap::new(),
            parts: BTreeMap::new(),
            known,
        };
        for entry in fs::read_dir(&root).map_err(CaptureError::io(&root))? {
            let path = entry.map_err(CaptureError::io(&root))?.path();
            let Some(vgroup) = vgroup_of(&path) else {
                continue;
            };
            if exists(&path.join("vnode.json"))? {
                listed.primary.insert(vgroup, path);
            } else {
                listed.parts.insert(vgroup, path);
            }
        }
        Ok(listed)
    }

    /// Whether it is where a server keeps what it has once, and not a tier that holds files of vnodes only.
    fn is_primary(&self) -> bool {
        self.known.is_some() || !self.primary.is_empty()
    }
}

/// The directories of one server: the primary one, and its tiers.
struct OneServer(Vec<Listed>);

/// Sorts directories by server. A tier belongs to the server that has all of the tier's vnodes; where several have, to
/// the one whose primary directory was named last before it.
fn servers(
    dirs: &[PathBuf],
    problems: &mut Vec<CaptureError>,
) -> Result<Vec<OneServer>, CaptureError> {
    let mut servers: Vec<OneServer> = Vec::new();
    let mut tiers = Vec::new();
    for dir in dirs {
        let listed = Listed::read(dir, problems)?;
        if listed.is_primary() {
            servers.push(OneServer(vec![listed]));
        } else {
            tiers.push((servers.len().saturating_sub(1), listed));
        }
    }
    for (last, tier) in tiers {
        let has_all = |server: &OneServer| {
            let mut vgroups = tier.parts.keys();
            vgroups.all(|vgroup| server.0.iter().any(|dir| dir.primary.contains_key(vgroup)))
        };
        let mut fitting = (0..).zip(&servers).filter(|(_, server)| has_all(server));
        let place = match (fitting.next(), fitting.next()) {
            (Some((only, _)), None) => only,
            _ => last,
        };
        match servers.get_mut(place) {
            Some(server) => server.0.push(tier),
            None => servers.push(OneServer(vec![tier])),
        }
    }
    Ok(servers)
}

impl OneServer {
    fn vnodes(self, problems: &mut Vec<CaptureError>) -> Vec<VnodeDir> {
        let mut primary: BTreeMap<VgId, PathBuf> = BTreeMap::new();
        let mut tsdb: BTreeMap<VgId, Vec<PathBuf>> = BTreeMap::new();
        let mut known: Option<VnodesJson> = None;
        for dir in self.0 {
            if let Some(file) = dir.known {
                let known = known.get_or_insert_default();
                known.live.extend(file.live);
                known.dropped.extend(file.dropped);
            }
            for (vgroup, path) in dir.primary {
                tsdb.entry(vgroup).or_default().insert(0, path.join("tsdb"));
                primary.insert(vgroup, path);
            }
            for (vgroup, path) in dir.parts {
                tsdb.entry(vgroup).or_default().push(path.join("tsdb"));
            }
        }
        let is_dropped = |vgroup: &VgId| {
            known
                .as_ref()
                .is_some_and(|known| known.dropped.contains(vgroup))
        };
        // One that the server does not count among its vnodes is being created or removed, or a leftover.
        let must_be_there = |vgroup: &VgId| {
            known
                .as_ref()
                .is_none_or(|known| known.live.contains(vgroup))
        };
        let mut vnodes = Vec::new();
        for (vgroup, tsdb) in tsdb.into_iter().filter(|(vgroup, _)| !is_dropped(vgroup)) {
            match primary.remove(&vgroup) {
                Some(primary) => vnodes.push(VnodeDir {
                    vgroup,
                    primary,
                    tsdb,
                    agreed: None,
                }),
                None if must_be_there(&vgroup) => {
                    let path = tsdb
                        .first()
                        .and_then(|dir| dir.parent())
                        .unwrap_or(Path::new(""));
                    problems.push(CaptureError::NotAVnode { path: path.into() });
                }
                None => {}
            }
        }
        vnodes
    }
}

impl VnodeDir {
    /// Whether the vnode went away since it was found.
    pub fn is_gone(&self) -> bool {
        matches!(self.primary.join("vnode.json").try_exists(), Ok(false))
    }

    /// Reads `vnode.json`.
    pub fn config(&self) -> Result<VnodeJson, CaptureError> {
        let path = self.primary.join("vnode.json");
        let config = read(&path)
            .and_then(|bytes| VnodeJson::parse(&bytes).map_err(CaptureError::format(&path)))?;
        if config.vgroup != self.vgroup {
            let detail = format!("it is of vgroup {}", config.vgroup).into();
            let source = FormatError::Corrupt {
                what: "vnode.json",
                offset: 0,
                detail,
            };
            return Err(CaptureError::Format { path, source });
        }
        Ok(config)
    }

    /// The data directory that it lies in: the primary one of its server.
    pub fn data_dir(&self) -> &Path {
        let vnode = self.primary.parent();
        vnode.and_then(Path::parent).unwrap_or(&self.primary)
    }

    /// Whether there is any segment of a log. A server always keeps one.
    pub fn has_log(&self) -> Result<bool, CaptureError> {
        Ok(!segment_names(&self.wal())?.is_empty())
    }

    pub(crate) fn wal(&self) -> PathBuf {
        self.primary.join("wal")
    }
}

/// Whether a server runs on this data directory: it holds a lock there as long as it lives. A copy, and the directory of
/// a server that is stopped, are held by nobody.
pub fn is_in_use(dir: &Path) -> Result<bool, CaptureError> {
    let path = dir.join(".running");
    match fs::File::open(&path) {
        // Shared and given back at once; a server that starts meanwhile tries again.
        Ok(file) => match file.try_lock_shared() {
            Ok(()) => Ok(false),
            Err(fs::TryLockError::WouldBlock) => Ok(true),
            Err(fs::TryLockError::Error(error)) => Err(CaptureError::io(path)(error)),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(CaptureError::io(path)(error)),
    }
}

pub(crate) fn read(path: &Path) -> Result<Vec<u8>, CaptureError> {
    fs::read(path).map_err(CaptureError::io(path))
}

pub(crate) fn exists(path: &Path) -> Result<bool, CaptureError> {
    path.try_exists().map_err(CaptureError::io(path))
}

/// `vnode12` is of vgroup 12.
fn vgroup_of(path: &Path) -> Option<VgId> {
    let digits = path.file_name()?.to_str()?.strip_prefix("vnode")?;
    (digits.bytes().all(|b| b.is_ascii_digit()) && path.is_dir())
        .then(|| digits.parse().ok().map(VgId))
        .flatten()
}

/// `vnodes.json`, where there is one.
fn vnodes_json(path: &Path) -> Result<Option<VnodesJson>, CaptureError> {
    match fs::read(path) {
        Ok(bytes) => VnodesJson::parse(&bytes)
            .map(Some)
            .map_err(CaptureError::format(path)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(CaptureError::io(path)(e)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A data directory with these vnodes, and with these parts of vnodes.
    fn data_dir(root: &Path, name: &str, vnodes: &[i32], parts: &[i32]) -> PathBuf {
        let dir = root.join(name);
        for vnode in vnodes.iter().chain(parts) {
            let vnode = dir.join(format!("vnode/vnode{vnode}"));
            fs::create_dir_all(vnode.join("tsdb")).unwrap();
        }
        for vnode in vnodes {
            fs::write(dir.join(format!("vnode/vnode{vnode}/vnode.json")), "{}").unwrap();
        }
        dir
    }

    /// The vgroups found, and for each in which directories it has files.
    fn found(root: &Path, dirs: &[&PathBuf]) -> Vec<(i32, Vec<String>)> {
        let dirs = dirs.iter().map(|dir| (*dir).clone()).collect();
        let vnodes = DataDirs::new(dirs).unwrap().replicas().unwrap();
        let name = |tsdb: &PathBuf| {
            let name = tsdb.strip_prefix(root).unwrap().iter().next().unwrap();
            name.to_string_lossy().into_owned()
        };
        vnodes
            .iter()
            .map(|vnode| (vnode.vgroup.0, vnode.tsdb.iter().map(name).collect()))
            .collect()
    }

    #[test]
    fn several_replicas_are_found_and_only_one_can_be_the_vnode() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path();
        let a = data_dir(root, "a", &[2, 3], &[]);
        let b = data_dir(root, "b", &[3, 4], &[]);
        let of = |name: &str| vec![name.to_owned()];
        assert_eq!(
            found(root, &[&a, &b]),
            [(2, of("a")), (3, of("a")), (3, of("b")), (4, of("b"))]
        );
        let one_each = DataDirs::new(vec![a.clone(), b]).unwrap().vnodes();
        assert!(matches!(one_each, Err(CaptureError::SameVnodeTwice { .. })));
        assert_eq!(DataDirs::new(vec![a]).unwrap().vnodes().unwrap().len(), 2);
    }

    #[test]
    fn a_tier_belongs_to_the_server_that_has_its_vnodes_or_else_to_the_one_before_it() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path();
        let a = data_dir(root, "a", &[2, 3], &[]);
        let b = data_dir(root, "b", &[2, 4], &[]);
        let only_b = data_dir(root, "only_b", &[], &[2, 4]);
        let either = data_dir(root, "either", &[], &[2]);
        let of = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        assert_eq!(
            found(root, &[&only_b, &a, &either, &b]),
            [
                (2, of(&["a", "either"])),
                (2, of(&["b", "only_b"])),
                (3, of(&["a"])),
                (4, of(&["b", "only_b"])),
            ]
        );
    }

    #[test]
    fn what_is_damaged_is_named_beside_what_can_be_read() {
        let root = tempfile::tempdir().unwrap();
        let a = data_dir(root.path(), "a", &[2], &[3]);
        let dirs = DataDirs::new(vec![a.clone()]).unwrap();
        let (vnodes, problems) = dirs.replicas_that_can_be_read().unwrap();
        assert_eq!(vnodes.len(), 1);
        assert!(problems[0].to_string().contains("vnode3"), "{problems:?}");
        assert!(matches!(
            dirs.replicas(),
            Err(CaptureError::NotAVnode { .. })
        ));
        fs::write(a.join("vnode/vnodes.json"), "{").unwrap();
        let (vnodes, problems) = dirs.replicas_that_can_be_read().unwrap();
        assert_eq!((vnodes.len(), problems.len()), (1, 2));
        assert!(
            problems[0].to_string().contains("vnodes.json"),
            "{problems:?}"
        );
    }

    #[test]
    fn a_directory_is_in_use_as_long_as_a_server_holds_its_lock() {
        let dir = tempfile::tempdir().unwrap();
        assert!(!is_in_use(dir.path()).unwrap(), "no server was ever there");
        let lock = fs::File::create(dir.path().join(".running")).unwrap();
        assert!(!is_in_use(dir.path()).unwrap(), "a copy");
        lock.lock().unwrap();
        assert!(is_in_use(dir.path()).unwrap());
        drop(lock);
        assert!(!is_in_use(dir.path()).unwrap(), "its server ended");
    }
}
