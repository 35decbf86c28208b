//! Which snapshots are kept. It knows times and rules, and nothing of what a snapshot holds.

use super::{RepoError, snapshot::Snapshot, snapshots::Snapshots};
use jiff::{Span, Timestamp, Zoned, tz::TimeZone};
use std::{collections::HashMap, fmt};

/// How many snapshots are kept of each kind. Rules add up: what any of them keeps is kept.
#[derive(Debug, Clone, Default)]
pub struct Rules {
    /// The last ones.
    pub last: u32,
    /// The last one of each of so many hours that have any.
    pub hourly: u32,
    /// As `hourly`, of days.
    pub daily: u32,
    /// As `hourly`, of weeks, which begin on Monday.
    pub weekly: u32,
    /// As `hourly`, of months.
    pub monthly: u32,
    /// As `hourly`, of years.
    pub yearly: u32,
    /// All that are not older, counted back from now.
    pub within: Option<Span>,
}

/// Why a snapshot is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// It is pinned.
    Pinned,
    /// It is the newest of its databases, which always stays.
    Newest,
    /// It is one of the last.
    Last,
    /// It is the last one of its hour.
    Hourly,
    /// It is the last one of its day.
    Daily,
    /// It is the last one of its week.
    Weekly,
    /// It is the last one of its month.
    Monthly,
    /// It is the last one of its year.
    Yearly,
    /// It is not old enough.
    Within,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Pinned => "pinned",
            Self::Newest => "newest",
            Self::Last => "last",
            Self::Hourly => "hourly",
            Self::Daily => "daily",
            Self::Weekly => "weekly",
            Self::Monthly => "monthly",
            Self::Yearly => "yearly",
            Self::Within => "within",
        })
    }
}

/// What becomes of a snapshot.
#[derive(Debug, Clone)]
pub struct Fate<'s> {
    /// The snapshot.
    pub snapshot: &'s Snapshot,
    /// Why it is kept; it goes if there is no reason.
    pub reasons: Vec<Reason>,
}

/// A period that a moment lies in: two moments have the same exactly if they lie in the same one.
type Period = (i16, i16);

/// How many are kept of the periods of one kind, why, and which period a moment lies in.
type Count = (u32, Reason, fn(&Zoned) -> Period);

impl Rules {
    /// Whether no rule is given.
    pub fn is_empty(&self) -> bool {
        self.last == 0
            && self.within.is_none()
            && self.counts().iter().all(|(count, ..)| *count == 0)
    }

    fn counts(&self) -> [Count; 5] {
        [
            (self.hourly, Reason::Hourly, |at| {
                (at.year(), at.day_of_year() * 32 + i16::from(at.hour()))
            }),
            (self.daily, Reason::Daily, |at| {
                (at.year(), at.day_of_year())
            }),
            (self.weekly, Reason::Weekly, |at| {
                let week = at.date().iso_week_date();
                (week.year(), i16::from(week.week()))
            }),
            (self.monthly, Reason::Monthly, |at| {
                (at.year(), i16::from(at.month()))
            }),
            (self.yearly, Reason::Yearly, |at| (at.year(), 0)),
        ]
    }

    /// What becomes of each snapshot that is not forgotten yet, by time, the oldest first. Snapshots are counted by the
    /// databases that they hold; hours, days, weeks, months and years are those of the time zone.
    ///
    /// # Errors
    /// No rule is given, or the rules reach back beyond all times.
    pub fn fates<'s>(
        &self,
        snapshots: &'s Snapshots,
        now: Timestamp,
        zone: &TimeZone,
    ) -> Result<Vec<Fate<'s>>, RepoError> {
        let mut counts = self.counts().to_vec();
        counts.insert(0, (self.last, Reason::Last, |_| (0, 0)));
        if self.is_empty() {
            return Err(RepoError::Refused(
                "no rule says what to keep, so nothing is forgotten; give --keep-last, -hourly, -daily, -weekly, -monthly, \
                 -yearly or -within"
                    .to_owned(),
            ));
        }
        let from = match &self.within {
            None => None,
            Some(span) => {
                let from = now.to_zoned(zone.clone()).checked_sub(*span);
                Some(
                    from.map_err(|error| RepoError::Refused(format!("--keep-within: {error}")))?
                        .timestamp(),
                )
            }
        };
        // Of each group and rule, how many are kept, and the period of the last of them.
        type Kept = [(u32, Option<Period>); 6];
        let mut groups: HashMap<(String, String), Kept> = HashMap::new();
        let mut fates = Vec::new();
        for snapshot in snapshots.listed().rev() {
            let Some(time) = snapshot.time() else {
                continue;
            };
            let at = time.to_zoned(zone.clone());
            let mut reasons = Vec::new();
            if snapshots.is_pinned(&snapshot.id) {
                reasons.push(Reason::Pinned);
            }
            let group = snapshot.group();
            if !groups.contains_key(&group) {
                reasons.push(Reason::Newest);
            }
            let kept = groups.entry(group).or_default();
            for ((most, reason, period), (count, last)) in counts.iter().zip(kept.iter_mut()) {
                let period = Some(period(&at));
                let is_new = *reason == Reason::Last || *last != period;
                if is_new && *count < *most {
                    *count += 1;
                    *last = period;
                    reasons.push(*reason);
                }
            }
            if from.is_some_and(|from| time >= from) {
                reasons.push(Reason::Within);
            }
            fates.push(Fate { snapshot, reasons });
        }
        fates.reverse();
        Ok(fates)
    }
}

/// A length of time as operators write it: `30d`, `2w`, `12h`, `1y6mo`.
///
/// # Errors
/// It is none, or it is negative.
pub fn span(text: &str) -> Result<Span, String> {
    match text.trim().parse::<Span>() {
        Ok(span) if span.is_negative() => Err(format!("{text:?} is negative")),
        Ok(span) if span.is_zero() => Err(format!("{text:?} is no time at all")),
        Ok(span) => Ok(span),
        Err(error) => Err(format!(
            "{text:?} is no length of time such as 30d, 2w or 12h: {error}"
        )),
    }
}
