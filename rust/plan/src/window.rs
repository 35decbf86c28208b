//! Windows: how wide a block is.
//!
//! A block is the rows of one table in one window; what a backup reads is the span between the first and the
//! last changed key in it, and spans in neighbouring windows are read as one. So a narrow window means many
//! queries, a wide one rows that did not change. A span costs about as much as reading a few thousand rows
//! (docs/performance.md has the measurement), so a window should hold about that many.

use bitmap::WindowNumber;
use model::{Key, KeySpan, Precision};
use serde::{Deserialize, Serialize};

/// The width of all windows of a database, in ticks of its precision. Fixed along a chain of backups.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct WindowWidth(i64);

/// Key 0 lies in this window.
const MIDDLE: i128 = 1 << 31;

/// Rows that a window should hold.
const ROWS_PER_WINDOW: i64 = 2048;

/// The widths there are, in seconds: a backup chain is easier to read with round ones.
const LADDER: [i64; 10] = [
    1, 10, 60, 600, 3_600, 21_600, 86_400, 864_000, 8_640_000, 31_536_000,
];

/// Where nothing is known about how often rows come.
const DEFAULT_SECONDS: i64 = 3_600;

impl WindowWidth {
    /// A width in ticks; `None` unless positive.
    pub fn from_ticks(ticks: i64) -> Option<Self> {
        (ticks > 0).then_some(Self(ticks))
    }

    /// The width in ticks.
    pub fn ticks(self) -> i64 {
        self.0
    }

    /// The width that holds about 2048 rows, given for some pieces of tables how many rows each holds in
    /// which span; each piece counts by its rows.
    pub fn choose(precision: Precision, pieces: impl IntoIterator<Item = (u64, KeySpan)>) -> Self {
        let mut intervals: Vec<(i64, u64)> = pieces
            .into_iter()
            .filter(|(rows, _)| *rows > 1)
            .map(|(rows, span)| {
                let length = i128::from(span.last.0) - i128::from(span.first.0);
                let interval = length / i128::from(rows - 1);
                (interval.clamp(0, i64::MAX.into()) as i64, rows)
            })
            .collect();
        intervals.sort_unstable();
        let total: u64 = intervals.iter().map(|(_, rows)| rows).sum();
        let mut passed = 0;
        let median = intervals.iter().find(|(_, rows)| {
            passed += rows;
            passed * 2 >= total
        });
        let ticks = precision.ticks_per_second();
        let seconds = median.map_or(DEFAULT_SECONDS, |(interval, _)| {
            let wanted = interval.saturating_mul(ROWS_PER_WINDOW) / ticks;
            LADDER
                .into_iter()
                .find(|step| *step >= wanted)
                .unwrap_or(LADDER[LADDER.len() - 1])
        });
        Self(seconds * ticks)
    }

    /// The window that `key` lies in. The windows at both ends hold everything beyond them.
    pub fn window_of(self, key: Key) -> WindowNumber {
        let number = i128::from(key.0.div_euclid(self.0)) + MIDDLE;
        WindowNumber(number.clamp(0, u32::MAX.into()) as u32)
    }

    /// The keys in a window.
    pub fn keys_of(self, window: WindowNumber) -> KeySpan {
        let edge = |number: i128| {
            let key = (number - MIDDLE) * i128::from(self.0);
            Key(key.clamp(i64::MIN.into(), i64::MAX.into()) as i64)
        };
        let number = i128::from(window.0);
        KeySpan {
            first: if window.0 == 0 {
                Key(i64::MIN)
            } else {
                edge(number)
            },
            last: if window.0 == u32::MAX {
                Key(i64::MAX)
            } else {
                Key(edge(number + 1).0.saturating_sub(1))
            },
        }
    }
}

impl Serialize for WindowWidth {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for WindowWidth {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let ticks = text.parse().ok().and_then(Self::from_ticks);
        ticks.ok_or_else(|| serde::de::Error::custom(format_args!("{text:?} is no window width")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_ascend_through_key_zero_and_end_where_the_next_begins() {
        let width = WindowWidth::from_ticks(10).unwrap();
        for key in [-21, -20, -11, -1, 0, 9, 10, 11] {
            let window = width.window_of(Key(key));
            let keys = width.keys_of(window);
            assert!((keys.first.0..=keys.last.0).contains(&key));
            assert_eq!(keys.last.0 - keys.first.0, 9);
        }
        assert_eq!(width.window_of(Key(-1)).0 + 1, width.window_of(Key(0)).0);
    }

    #[test]
    fn keys_beyond_the_last_window_fall_into_it() {
        let width = WindowWidth::from_ticks(1).unwrap();
        for key in [i64::MIN, i64::MAX] {
            let keys = width.keys_of(width.window_of(Key(key)));
            assert!((keys.first.0..=keys.last.0).contains(&key));
        }
    }

    #[test]
    fn a_window_holds_about_2048_rows_of_the_median_table() {
        let span = |ticks| KeySpan {
            first: Key(0),
            last: Key(ticks),
        };
        // One row a second in most tables: 2048 s, rounded up to an hour.
        let pieces = [
            (1_000, span(999_000)),
            (10, span(9)),
            (3_000, span(2_999_000)),
        ];
        let width = WindowWidth::choose(Precision::Milliseconds, pieces);
        assert_eq!(width.ticks(), 3_600_000);
        assert_eq!(
            WindowWidth::choose(Precision::Nanoseconds, []).ticks(),
            3_600_000_000_000,
            "nothing known: an hour"
        );
        let once_in_centuries = [(2, span(i64::MAX))];
        assert_eq!(
            WindowWidth::choose(Precision::Milliseconds, once_in_centuries).ticks(),
            31_536_000_000
        );
    }
}
