//! Options of a vnode.

use crate::tsdb::{Format, Release};
use crate::wal::Form;

/// Precision of timestamps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Precision {
    /// Milliseconds.
    #[default]
    Ms,
    /// Microseconds.
    Us,
    /// Nanoseconds.
    Ns,
}

impl Precision {
    /// Ticks per minute.
    pub fn per_minute(self) -> i64 {
        60_000 * [1, 1000, 1_000_000][self as usize]
    }
}

/// Which WAL segments are left after a commit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WalKeep {
    /// All: their retention has not passed.
    #[default]
    All,
    /// This many committed segments.
    Last(usize),
    /// No log at all (`wal_level 0`): files 0 exist and stay empty. What is not committed cannot be read.
    Off,
}

/// Options of a vnode.
#[derive(Clone, Debug)]
pub struct VnodeConfig {
    /// Vgroup id.
    pub vg: i32,
    /// Database name.
    pub db: String,
    /// Database id.
    pub db_id: i64,
    /// Precision of timestamps.
    pub precision: Precision,
    /// Minutes a file set spans; 14400 are the default 10 days.
    pub minutes_per_file: i32,
    /// Format of TSDB files.
    pub format: Format,
    /// Server release, which decides JSON keys and whether drops name uids.
    pub release: Release,
    /// With 1 commits go straight to the data files; else each makes an stt file. Merges are up to the caller.
    pub stt_trigger: u32,
    /// Layout of submits.
    pub form: Form,
    /// Retention of the log.
    pub wal: WalKeep,
    /// Shapes WAL bodies as an encrypting server would.
    pub wal_encrypted: bool,
    /// Clock of the first record in µs since 1970; one more ms for every record.
    pub start_us: i64,
}

impl Default for VnodeConfig {
    fn default() -> Self {
        Self {
            vg: 2,
            db: "sdb".into(),
            db_id: 4_369_355_181_062_583_356,
            precision: Precision::Ms,
            minutes_per_file: 14_400,
            format: Format::default(),
            release: Release::V337,
            stt_trigger: 2,
            form: Form::Tuple,
            wal: WalKeep::All,
            wal_encrypted: false,
            start_us: 1_704_067_200_000_000,
        }
    }
}
