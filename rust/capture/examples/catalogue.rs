//! Reads the catalogue of every vnode of a data directory and says what that cost:
//!
//! ```sh
//! cargo run --release -p capture --example catalogue -- /var/lib/taos
//! ```

use capture::{DataDirs, catalogue::Kind};
use std::{env, error::Error, fs, time::Instant};

fn main() -> Result<(), Box<dyn Error>> {
    let dirs = env::args_os().skip(1).map(Into::into).collect();
    let started = Instant::now();
    let (mut tables, mut values, mut names) = (0, 0, 0);
    let mut catalogues = Vec::new();
    for vnode in DataDirs::new(dirs)?.vnodes()? {
        let catalogue = vnode.catalogue()?;
        for table in catalogue.tables.values() {
            tables += 1;
            names += table.name.len();
            if let Kind::Child { tags, .. } = &table.kind {
                values += tags.len();
            }
        }
        // Kept, so that the memory is that of all.
        catalogues.push(catalogue);
    }
    let seconds = started.elapsed().as_secs_f64();
    println!("{tables} tables with names of {names} bytes and {values} tag values: {seconds:.3} s");
    // utime and stime, in ticks of 10 ms, and the most memory.
    let stat = fs::read_to_string("/proc/self/stat")?;
    let fields: Vec<&str> = stat
        .rsplit(')')
        .next()
        .unwrap_or_default()
        .split(' ')
        .collect();
    println!(
        "CPU: user {} ticks, system {} ticks",
        fields[12], fields[13]
    );
    let status = fs::read_to_string("/proc/self/status")?;
    for line in status.lines().filter(|line| line.starts_with("VmHWM")) {
        println!("{line}");
    }
    Ok(())
}
