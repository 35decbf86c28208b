//! `forget`: forgets snapshots by rules or by id, and pins them.

use super::zone;
use crate::{Done, Failure, access, arguments::Global, output};
use clap::Args;
use jiff::Span;
use repository::repo::retention::{self, Rules};
use serde_json::{Value, json};
use terminal::Exit;

/// What `forget` takes.
#[derive(Debug, Args)]
pub(crate) struct ForgetOptions {
    /// Snapshots to forget, whatever the rules say
    snapshots: Vec<String>,

    #[command(flatten)]
    rules: RuleOptions,

    /// Say what goes and what stays and why, and forget nothing
    #[arg(long)]
    dry_run: bool,

    /// Pin these snapshots instead, so that they are never forgotten
    #[arg(long, conflicts_with_all = ["unpin", "rules"])]
    pin: bool,

    /// Take the pins of these snapshots away instead
    #[arg(long, conflicts_with = "rules")]
    unpin: bool,

    /// The time zone of hours, days, weeks, months and years [default: this machine's]
    #[arg(long, value_name = "ZONE")]
    time_zone: Option<String>,
}

/// Rules add up: what any of them keeps is kept. They count the snapshots of each set of databases for itself.
#[derive(Debug, Args)]
#[group(id = "rules", multiple = true)]
struct RuleOptions {
    /// Keep the last so many
    #[arg(long, value_name = "N")]
    keep_last: Option<u32>,
    /// Keep the last one of each of so many hours
    #[arg(long, value_name = "N")]
    keep_hourly: Option<u32>,
    /// Keep the last one of each of so many days
    #[arg(long, value_name = "N")]
    keep_daily: Option<u32>,
    /// Keep the last one of each of so many weeks
    #[arg(long, value_name = "N")]
    keep_weekly: Option<u32>,
    /// Keep the last one of each of so many months
    #[arg(long, value_name = "N")]
    keep_monthly: Option<u32>,
    /// Keep the last one of each of so many years
    #[arg(long, value_name = "N")]
    keep_yearly: Option<u32>,
    /// Keep all that are not older than this, such as 30d or 12h
    #[arg(long, value_name = "TIME", value_parser = retention::span, allow_hyphen_values = true)]
    keep_within: Option<Span>,
}

impl RuleOptions {
    fn rules(&self) -> Rules {
        Rules {
            last: self.keep_last.unwrap_or(0),
            hourly: self.keep_hourly.unwrap_or(0),
            daily: self.keep_daily.unwrap_or(0),
            weekly: self.keep_weekly.unwrap_or(0),
            monthly: self.keep_monthly.unwrap_or(0),
            yearly: self.keep_yearly.unwrap_or(0),
            within: self.keep_within,
        }
    }
}

pub(crate) fn run(global: &Global, options: &ForgetOptions) -> Done {
    let zone = zone(options.time_zone.as_deref())?;
    let rules = options.rules.rules();
    let has_rules = !rules.is_empty();
    if (options.pin || options.unpin) && options.snapshots.is_empty() {
        return Err(Failure::usage(
            "--pin and --unpin need to know which snapshots; give their ids",
        ));
    }
    if has_rules != options.snapshots.is_empty() {
        return Err(Failure::usage(match has_rules {
            true => "both snapshots and rules are given; give either",
            false => "nothing says what to forget; give snapshots, or rules such as --keep-daily 7",
        }));
    }
    let repository = access::repository(global)?;
    let snapshots = repository.snapshots()?;
    let mut goes = Vec::new();
    let mut lines = vec![
        ["", "ID", "TIME", "DATABASES", "WHY"]
            .map(str::to_owned)
            .to_vec(),
    ];
    let mut fates: Vec<Value> = Vec::new();
    let mut add = |snapshot: &repository::repo::snapshot::Snapshot, what: &str, why: String| {
        lines.push(vec![
            what.to_owned(),
            snapshot.id.short().to_owned(),
            snapshot.finished.clone(),
            snapshot.database_names(),
            why.clone(),
        ]);
        fates.push(json!({"id": snapshot.id, "what": what, "why": why}));
    };
    for what in &options.snapshots {
        let snapshot = snapshots.find(what, &zone)?;
        let (word, why) = match (options.pin, options.unpin) {
            (true, _) => ("pin", "never forgotten from now on"),
            (_, true) => ("unpin", "rules count it again"),
            _ => ("forget", "asked for"),
        };
        add(snapshot, word, why.to_owned());
        goes.push(snapshot.id.clone());
    }
    if has_rules {
        for fate in rules.fates(&snapshots, jiff::Timestamp::now(), &zone)? {
            let reasons: Vec<String> = fate.reasons.iter().map(ToString::to_string).collect();
            match reasons.is_empty() {
                true => {
                    add(fate.snapshot, "forget", "no rule keeps it".to_owned());
                    goes.push(fate.snapshot.id.clone());
                }
                false => add(fate.snapshot, "keep", reasons.join(", ")),
            }
        }
    }
    if !options.dry_run {
        match (options.pin, options.unpin) {
            (true, _) => goes
                .iter()
                .try_for_each(|id| repository.pin(&snapshots, id))?,
            (_, true) => goes.iter().try_for_each(|id| repository.unpin(id))?,
            _ => repository.forget(&snapshots, &goes)?,
        }
    }
    let object = json!({
        "result": if options.dry_run { "planned" } else { "done" },
        "snapshots": fates,
    });
    let mut text = output::table(&lines);
    text.push_str(match (options.dry_run, options.pin || options.unpin) {
        (true, _) => "this was --dry-run: nothing was changed\n",
        (false, true) => "",
        (false, false) if goes.is_empty() => "nothing was forgotten\n",
        (false, false) => "prune gives the space back of what no kept snapshot needs\n",
    });
    output::print(global.json, &object, &text, Exit::Done)
}
