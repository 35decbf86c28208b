#![no_main]
//! A file of a block engine, patched or replaced, with and without checksums that fit.
use bitmap::{BlockId, Engine, EngineConfig, Mark, MarkedAt};
use libfuzzer_sys::fuzz_target;
use std::{fs, path::Path, sync::OnceLock};

/// The fixed part of a run's header, and the size of a fence (see `disk.rs`).
const HEADER: usize = 56;
const FENCE: usize = 24;

struct Sample {
    dir: tempfile::TempDir,
    files: Vec<(String, Vec<u8>)>,
}

fn config(dir: &Path) -> EngineConfig {
    EngineConfig {
        max_memory_mb: 16,
        persistence_path: Some(dir.to_path_buf()),
    }
}

/// An engine with several runs per tree, closed.
fn sample() -> &'static Sample {
    static SAMPLE: OnceLock<Sample> = OnceLock::new();
    SAMPLE.get_or_init(|| {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let engine = Engine::open(&config(dir.path())).expect("a new engine");
        for round in 0..2 {
            for i in 0..1500 {
                let marked = MarkedAt::new(round * 2000 + i, i as i64 % 700);
                let block = BlockId((i % 3) << 32 | i * 5);
                engine.mark(block, Mark::Dirty, marked).expect("a mark");
            }
            engine.sync().expect("a sync");
        }
        drop(engine);
        let mut files = Vec::new();
        for entry in fs::read_dir(dir.path()).expect("a directory") {
            let path = entry.expect("an entry").path();
            let name = path
                .file_name()
                .map(|name| name.to_string_lossy().into_owned());
            let bytes = fs::read(&path).expect("a file");
            files.extend(name.filter(|name| name != "LOCK").map(|name| (name, bytes)));
        }
        files.sort();
        Sample { dir, files }
    })
}

fn long(bytes: &[u8], at: usize) -> Option<usize> {
    let value = bytes
        .get(at..at + 8)?
        .try_into()
        .ok()
        .map(u64::from_le_bytes)?;
    usize::try_from(value)
        .ok()
        .filter(|&value| value <= bytes.len())
}

fn seal(bytes: &mut [u8], from: usize, to: usize, crc_at: usize) {
    if from <= to && to <= bytes.len() && crc_at + 4 <= bytes.len() {
        let crc = crc32c::crc32c(&bytes[from..to]).to_le_bytes();
        bytes[crc_at..crc_at + 4].copy_from_slice(&crc);
    }
}

/// Gives every part of a run the checksum that fits.
fn seal_run(bytes: &mut [u8]) -> Option<()> {
    let end = HEADER + long(bytes, 32)?.checked_mul(FENCE)?;
    let start = end + 4;
    for fence in (HEADER..end).step_by(FENCE) {
        let from = start + long(bytes, fence + 16)?;
        let to = long(bytes, fence + FENCE + 16)
            .filter(|_| fence + FENCE < end)
            .map_or(bytes.len(), |next| start + next);
        seal(bytes, from + 4, to, from);
    }
    seal(bytes, 0, end, end);
    Some(())
}

fn damaged(original: &[u8], name: &str, data: &[u8]) -> Vec<u8> {
    let Some((&how, data)) = data.split_first() else {
        return Vec::new();
    };
    let mut bytes = original.to_vec();
    if how & 1 == 0 {
        bytes = data.to_vec();
    } else {
        for patch in data.chunks_exact(3) {
            let at = usize::from(u16::from_le_bytes([patch[0], patch[1]]));
            if let Some(byte) = bytes.get_mut(at) {
                *byte = patch[2];
            }
        }
    }
    if how & 2 != 0 && name.starts_with("run-") {
        let _ = seal_run(&mut bytes);
    } else if how & 2 != 0 {
        let json = bytes
            .iter()
            .position(|&b| b == b'\n')
            .map_or(0, |end| end + 1);
        let json = bytes.split_off(json);
        let crc = crc32c::crc32c(&json);
        bytes = format!("tdengine-bitmap-manifest 1 {crc:08x}\n").into_bytes();
        bytes.extend(json);
    }
    bytes
}

fuzz_target!(|data: &[u8]| {
    let Sample { dir, files } = sample();
    let Some((&which, data)) = data.split_first() else {
        return;
    };
    let _ = fs::remove_dir_all(dir.path());
    fs::create_dir(dir.path()).expect("a directory");
    let which = usize::from(which) % files.len();
    for (number, (name, bytes)) in files.iter().enumerate() {
        // Both copies of a manifest are damaged alike, so that it is read.
        let hit = number == which
            || name.starts_with("MANIFEST") && files[which].0.starts_with("MANIFEST");
        let bytes = if hit {
            damaged(bytes, name, data)
        } else {
            bytes.clone()
        };
        fs::write(dir.path().join(name), bytes).expect("a file");
    }
    for _ in 0..2 {
        let Ok(engine) = Engine::open(&config(dir.path())) else {
            return;
        };
        let _ = engine.find_by_wal(0..=u64::MAX, usize::MAX);
        let _ = engine.find_by_time(-5..=600, 100);
        let _ = engine.block(BlockId(10));
        let _ = engine.mark(BlockId(11), Mark::Dirty, MarkedAt::new(9999, 1));
        let _ = engine.compact();
        let list = engine.list_damage(usize::MAX);
        let _ = engine.acknowledge_damage(list.token);
    }
});
