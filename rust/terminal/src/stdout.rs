//! Standard output.

use std::io::{self, Write};

/// Writes to standard output. A reader that goes away, as `head` does, is a failure only if it is `needed`.
pub fn print(bytes: &[u8], needed: bool) -> Result<(), String> {
    let mut out = io::stdout().lock();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Err(e) if e.kind() == io::ErrorKind::BrokenPipe && !needed => Ok(()),
        Err(e) => Err(format!("standard output: {e}")),
        Ok(()) => Ok(()),
    }
}
