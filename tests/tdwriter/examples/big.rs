//! Writes two large vnodes to try things on: `big DIR TABLES ROWS_PER_TABLE DIRTY_FRACTION`.

use std::{env, error::Error, path::PathBuf};

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = env::args().skip(1).collect();
    let [dir, tables, rows, dirty] = args.as_slice() else {
        return Err("usage: big DIR TABLES ROWS_PER_TABLE DIRTY_FRACTION".into());
    };
    let truth = tdwriter::vnode::big(
        &PathBuf::from(dir),
        tables.parse()?,
        rows.parse()?,
        1_000,
        dirty.parse()?,
    )?;
    for vnode in truth.vnodes {
        println!(
            "vgroup {}: {} rows, start at version {}",
            vnode.vg, vnode.rows, vnode.since
        );
    }
    Ok(())
}
