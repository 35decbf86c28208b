//! Asking again while the server is busy: while a vgroup moves to another dnode, or has no leader yet.

use super::{Backup, BackupError};
use crate::watermark::WatermarkError;
use model::{MayPass, Retry};
use server::catalogue::CatalogueError;
use std::{fmt, time::Duration};

/// A move of a vgroup closes it for a few seconds.
const BUSY: Retry = Retry {
    count: u32::MAX,
    interval: Duration::from_millis(200),
    timeout: Duration::from_secs(60),
};

/// An error of which only that passes which the server calls busy: a lost connection has its own rules.
struct WhileBusy(BackupError);

impl MayPass for WhileBusy {
    fn may_pass(&self) -> bool {
        match &self.0 {
            BackupError::Sql(error)
            | BackupError::Catalogue(CatalogueError::Sql(error))
            | BackupError::Watermark(WatermarkError::Sql(error)) => error.is_busy(),
            _ => false,
        }
    }
}

impl fmt::Display for WhileBusy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Backup<'_> {
    /// Does it, and again while the server is busy with something that it needs.
    pub(super) fn patiently<T>(
        &self,
        mut attempt: impl FnMut() -> Result<T, BackupError>,
    ) -> Result<T, BackupError> {
        let mut tries = 0;
        let again = |error: &WhileBusy| {
            tries += 1;
            // Every fifth second.
            if tries % 25 == 0 {
                let text = format!("waiting until the server is ready, at most 60 s: {error}");
                self.progress.waits(&text);
            }
        };
        BUSY.run(self.progress, again, || attempt().map_err(WhileBusy))
            .map_err(|WhileBusy(error)| error)
    }
}
