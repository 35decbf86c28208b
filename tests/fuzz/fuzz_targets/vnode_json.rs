#![no_main]
//! A vnode.json, and the key ranges that follow from it.
use libfuzzer_sys::fuzz_target;
use tdfiles::{FileSetId, vnode_json::VnodeJson};

fuzz_target!(|data: &[u8]| {
    if let Ok(vnode) = VnodeJson::parse(data) {
        for fid in [i32::MIN, -1, 0, 1972, i32::MAX] {
            let range = vnode.key_range(FileSetId(fid));
            assert!(range.first <= range.last);
        }
    }
});
