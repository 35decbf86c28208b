#![no_main]
//! A vnode.json with the key ranges that follow from it, and a vnodes.json.
use libfuzzer_sys::fuzz_target;
use model::FileSetId;
use tdfiles::{vnode_json::VnodeJson, vnodes_json::VnodesJson};

fuzz_target!(|data: &[u8]| {
    let _ = VnodesJson::parse(data);
    if let Ok(vnode) = VnodeJson::parse(data) {
        for fid in [i32::MIN, -1, 0, 1972, i32::MAX] {
            let range = vnode.key_range(FileSetId(fid));
            assert!(range.first <= range.last);
        }
    }
});
