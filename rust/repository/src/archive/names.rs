//! What archives are called, and in which order they are restored.
//!
//! `NNNNNNNNNNNNNNNNNNNN.blocks`: a number of 20 digits, above the highest in the directory and above the last one that
//! the coordinator wrote. So the order does not depend on the clock. A coordinator that is created anew over a directory
//! whose archives were moved elsewhere has only the clock: no number is below the nanoseconds since 1970. Archives of
//! earlier versions have `-NNNNNN` behind these nanoseconds.

use super::ArchiveError;
use std::{
    fs, io,
    path::{Path, PathBuf},
};

const ENDING: &str = "blocks";

/// The name of the archive with this number.
pub fn file_name(number: u64) -> String {
    format!("{number:020}.{ENDING}")
}

/// The number of an archive, and what an earlier version wrote behind it.
fn number(path: &Path) -> Option<(u64, u64)> {
    if path.extension()? != ENDING {
        return None;
    }
    let stem = path.file_stem()?.to_str()?;
    let (number, rest) = match stem.split_once('-') {
        Some((number, rest)) => (number, Some(rest)),
        None => (stem, None),
    };
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if number.len() != 20 || !digits(number) || !rest.is_none_or(digits) {
        return None;
    }
    let rest = match rest {
        Some(rest) => rest.parse().ok()?,
        None => 0,
    };
    Some((number.parse().ok()?, rest))
}

/// The number of the next archive in a directory: above `newest`, which the caller wrote last, and above all that are there.
pub fn next_number(dir: &Path, newest: Option<u64>, now: i64) -> Result<u64, ArchiveError> {
    let io = |source| ArchiveError::Io {
        path: dir.into(),
        source,
    };
    let newest = newest.max(highest(dir).map_err(io)?);
    let next = match newest {
        Some(newest) => newest.checked_add(1).ok_or_else(|| {
            let problem = format!(
                "{} has the highest number there is: move it to another directory",
                file_name(newest)
            );
            io(io::Error::other(problem))
        })?,
        None => 0,
    };
    Ok(next.max(u64::try_from(now).unwrap_or(0)))
}

fn highest(dir: &Path) -> io::Result<Option<u64>> {
    let mut highest = None;
    for entry in fs::read_dir(dir)? {
        if let Some((number, _)) = number(&entry?.path()) {
            highest = highest.max(Some(number));
        }
    }
    Ok(highest)
}

/// Archives in the order in which they were written: those of one directory by their numbers, directories as they are
/// given. In a directory where one of them has another name than its coordinator gave it, as they are given.
pub fn in_order(paths: &[PathBuf]) -> Vec<PathBuf> {
    let mut dirs: Vec<(PathBuf, Vec<&PathBuf>)> = Vec::new();
    for path in paths {
        let dir = directory_of(path);
        match dirs.iter_mut().find(|(known, _)| *known == dir) {
            Some((_, paths)) => paths.push(path),
            None => dirs.push((dir, vec![path])),
        }
    }
    for (_, paths) in &mut dirs {
        if paths.iter().all(|path| number(path).is_some()) {
            paths.sort_by_key(|path| number(path));
        }
    }
    let ordered = dirs.into_iter().flat_map(|(_, paths)| paths);
    ordered.cloned().collect()
}

/// The same for every way to name a directory. One that can't be resolved is taken as it is given.
fn directory_of(path: &Path) -> PathBuf {
    let dir = match path.parent() {
        Some(dir) if dir.as_os_str().is_empty() => Path::new("."),
        Some(dir) => dir,
        None => path,
    };
    dir.canonicalize().unwrap_or_else(|_| dir.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_steps_back_and_a_directory_that_is_emptied_leave_the_order() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path();
        assert_eq!(next_number(dir, None, 1_000).unwrap(), 1_000);
        // Of an earlier version, and of a coordinator whose clock was ahead.
        for name in [
            "00000000000000005000-000017.blocks",
            "other.blocks",
            "7.blocks",
        ] {
            fs::write(dir.join(name), "").unwrap();
        }
        assert_eq!(next_number(dir, None, 1_000).unwrap(), 5_001);
        fs::write(dir.join(file_name(5_001)), "").unwrap();
        assert_eq!(next_number(dir, None, -3).unwrap(), 5_002);
        assert_eq!(next_number(dir, Some(5_002), 0).unwrap(), 5_003);
        fs::write(dir.join(file_name(u64::MAX)), "").unwrap();
        let error = next_number(dir, None, 1_000).unwrap_err().to_string();
        assert!(error.contains("18446744073709551615.blocks"), "{error}");
    }

    #[test]
    fn archives_are_ordered_by_their_numbers_within_a_directory() {
        let paths = |names: &[&str]| names.iter().map(PathBuf::from).collect::<Vec<_>>();
        let number = |number: u64| file_name(number);
        let (two, ten) = (format!("a/{}", number(2)), format!("a/{}", number(10)));
        let old = "a/00000000000000000002-000003.blocks";
        let older = "a/00000000000000000001-000009.blocks";
        let given = paths(&[&ten, "b/x.blocks", "b/a.blocks", old, &two, older]);
        let expected = paths(&[older, &two, old, &ten, "b/x.blocks", "b/a.blocks"]);
        assert_eq!(in_order(&given), expected);
        let given = paths(&[&ten, "a/renamed", &two]);
        assert_eq!(
            in_order(&given),
            given,
            "nobody knows where that one belongs"
        );
    }

    #[test]
    fn a_directory_that_is_named_in_two_ways_is_one() {
        let dir = tempfile::tempdir().unwrap();
        let plain = |number| dir.path().join(file_name(number));
        let with_a_dot = |number| dir.path().join(".").join(file_name(number));
        assert_eq!(
            in_order(&[plain(2), with_a_dot(1), plain(3)]),
            [with_a_dot(1), plain(2), plain(3)]
        );
    }
}
