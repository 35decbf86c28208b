//! `vnodes.json`: the vnodes of a dnode, beside their directories.

use crate::{FormatError, json};
use model::VgId;
use serde::Deserialize;

#[derive(Deserialize)]
struct File {
    vnodes: Vec<Status>,
}

#[derive(Deserialize)]
struct Status {
    #[serde(rename = "vgId")]
    vgroup: i32,
    #[serde(default)]
    dropped: i32,
}

/// The vnodes that a dnode has.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct VnodesJson {
    /// Those in use.
    pub live: Vec<VgId>,
    /// Those whose directories are about to go.
    pub dropped: Vec<VgId>,
}

impl VnodesJson {
    /// Parses the file's bytes.
    pub fn parse(bytes: &[u8]) -> Result<Self, FormatError> {
        let file: File = json::parse("vnodes.json", bytes)?;
        let (dropped, live): (Vec<_>, Vec<_>) = file
            .vnodes
            .into_iter()
            .partition(|vnode| vnode.dropped != 0);
        let ids = |vnodes: Vec<Status>| vnodes.into_iter().map(|v| VgId(v.vgroup)).collect();
        Ok(Self {
            live: ids(live),
            dropped: ids(dropped),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn live_and_dropped_vnodes_are_told_apart() {
        let text = br#"{"vnodes":[{"vgId":2,"dropped":0,"vgVersion":1},{"vgId":3,"dropped":1},{"vgId":4}]}"#;
        let parsed = VnodesJson::parse(text).unwrap();
        assert_eq!(
            parsed,
            VnodesJson {
                live: vec![VgId(2), VgId(4)],
                dropped: vec![VgId(3)]
            }
        );
        let FormatError::Corrupt { offset, .. } =
            VnodesJson::parse(b"{\n\"vnodes\": x}").unwrap_err()
        else {
            panic!("not JSON")
        };
        assert_eq!(offset, 12, "the offset counts bytes of the file");
    }
}
