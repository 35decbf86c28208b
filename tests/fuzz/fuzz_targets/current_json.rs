#![no_main]
//! A current.json, and the file names that follow from it.
use libfuzzer_sys::fuzz_target;
use model::VgId;
use tdfiles::current_json::CurrentJson;

fuzz_target!(|data: &[u8]| {
    if let Ok(current) = CurrentJson::parse(data) {
        for set in &current.file_sets {
            let merged = set.merged.iter().flat_map(|(head, data)| [head, data]);
            for entry in merged.chain(&set.tomb).chain(&set.stt) {
                assert!(!entry.name(VgId(2)).contains('/'));
            }
        }
    }
});
