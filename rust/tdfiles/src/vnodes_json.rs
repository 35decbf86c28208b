//! `vnodes.json`: the vnodes of a dnode, beside their directories.

use crate::{FormatError, VgId, json};
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

/// The vnodes that the file marks as dropped: their directories are about to go.
pub fn dropped(bytes: &[u8]) -> Result<Vec<VgId>, FormatError> {
    let file: File = json::parse("vnodes.json", bytes)?;
    let dropped = file.vnodes.into_iter().filter(|vnode| vnode.dropped != 0);
    Ok(dropped.map(|vnode| VgId(vnode.vgroup)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_dropped_vnodes_are_named() {
        let text = br#"{"vnodes":[{"vgId":2,"dropped":0,"vgVersion":1},{"vgId":3,"dropped":1},{"vgId":4}]}"#;
        assert_eq!(dropped(text).unwrap(), [VgId(3)]);
        let FormatError::Corrupt { offset, .. } = dropped(b"{\n\"vnodes\": x}").unwrap_err() else {
            panic!("not JSON")
        };
        assert_eq!(offset, 12, "the offset counts bytes of the file");
    }
}
