//! Checking links offline: what a restore would read, read and held against what was written.
//!
//! [`run`] never stops at the first problem: the report names all of them. It needs no server and writes nothing.
//!
//! | module | checks |
//! |---|---|
//! | `link` | one link: seal, SHA-256 of every file, lists, catalogue against changes and parent |
//! | `content` | that data and tags files decode, with the rows and keys they should have |
//! | `coverage` | that a list of blocks is in the chain |
//! | `stock` | a dump of an unpatched taosdump, which has no manifest |

mod content;
mod coverage;
mod link;
mod stock;

use crate::{
    link::{Link, LinkError, MANIFEST},
    local::{LocalFileError, load_blocks},
};
use coverage::Coverage;
use link::Checked;
use model::{Cancelled, LinkId, Progress, Unit, sealed};
use plan::report::{Blocks, BlocksError};
use serde::Serialize;
use std::{
    path::{Path, PathBuf},
    sync::Arc,
};
use store::Store;

/// The only format there is.
const FORMAT: u32 = 1;

/// What to check.
#[derive(Debug, Clone)]
pub struct Job {
    /// The links of one chain, the oldest first.
    pub links: Vec<Arc<dyn Store>>,
    /// A list of blocks that the links have to hold, as `--detect --output` writes it.
    pub blocks: Option<PathBuf>,
    /// How many files are read at a time.
    pub threads: usize,
}

/// What came of a check. As JSON: docs/verify.md and docs/verify-report.schema.json.
#[derive(Debug, Serialize)]
pub struct Report {
    format: u32,
    written_by: String,
    /// When the check ended, RFC 3339.
    pub checked: String,
    /// The verdict.
    pub result: Verdict,
    /// The links, as they were given.
    pub links: Vec<LinkReport>,
    /// What became of the list of blocks.
    pub blocks: Option<BlocksReport>,
    /// Everything that is wrong.
    pub problems: Vec<Problem>,
    /// What is worth knowing and not wrong.
    pub notes: Vec<String>,
}

/// Whether a backup can be relied on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Everything is there as it was written.
    Intact,
    /// Everything is there as it was written, but the dump had left something out.
    Incomplete,
    /// Something is missing, damaged or does not belong together.
    Failed,
}

/// What was found of one link.
#[derive(Debug, Serialize)]
pub struct LinkReport {
    /// Its directory, as given.
    pub directory: String,
    /// What it is.
    pub kind: Kind,
    /// What its manifest says; `None` if that can't be used.
    pub manifest: Option<ManifestReport>,
    /// Files checked, and how many bytes they have.
    pub files: u64,
    /// See `files`.
    pub bytes: u64,
    /// Rows decoded.
    pub rows: u64,
}

/// What a directory is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A link of a chain.
    Link,
    /// An export of blocks.
    Export,
    /// A dump of an unpatched taosdump.
    Taosdump,
    /// None of these.
    Unknown,
}

/// What a manifest says.
#[derive(Debug, Serialize)]
#[expect(missing_docs, reason = "as in `Manifest`")]
pub struct ManifestReport {
    pub id: LinkId,
    pub sha256: String,
    pub parent: Option<LinkId>,
    pub cluster: String,
    pub server: String,
    pub started: String,
    pub finished: String,
    pub databases: Vec<DatabaseReport>,
}

/// One database of a link.
#[derive(Debug, Serialize)]
#[expect(missing_docs, reason = "as in `DatabaseLink` and its totals")]
pub struct DatabaseReport {
    pub name: String,
    pub incremental: bool,
    pub tables: u64,
    pub tables_changed: u64,
    pub tables_dropped: u64,
    pub rows: u64,
}

/// How much of a list of blocks is in the links.
#[derive(Debug, Serialize)]
pub struct BlocksReport {
    /// The file.
    pub file: String,
    /// Its database.
    pub database: String,
    /// Tables named in it.
    pub tables: u64,
    /// Of these, tables of which the links hold everything.
    pub tables_covered: u64,
}

/// Something wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// What kind of problem it is.
    pub code: ProblemCode,
    /// The link's directory, if it is about one.
    pub link: Option<String>,
    /// The file, from the link's directory, if it is about one.
    pub file: Option<String>,
    /// In words, with what to do.
    pub text: String,
}

/// What kind of problem it is. docs/verify.md says what to do about each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ProblemCode {
    /// There is no manifest.
    NotALink,
    /// The manifest is not what was written.
    ManifestDamaged,
    /// A file was written by a newer version of this program, in a format that is not known here.
    NewerFormat,
    /// A file is missing.
    FileMissing,
    /// The operating system does not let a file be read.
    FileUnreadable,
    /// A file is not what was written.
    FileDamaged,
    /// A file is what was written, and can't be understood.
    ContentUnreadable,
    /// A file holds something else than the link says.
    ContentDiffers,
    /// The parts of a link contradict each other or its parent.
    Contradiction,
    /// A link does not follow the one before.
    WrongOrder,
    /// The link before was changed after this one was made.
    ParentChanged,
    /// Changes between two links are in neither.
    Gap,
    /// The dump had left something out.
    DumpIncomplete,
    /// The list of blocks can't be used.
    BlocksUnusable,
    /// Blocks of the list are not in the links.
    NotCovered,
    /// A dump of an unpatched taosdump can't hold it, or does not show it.
    NotInAStockDump,
}

impl ProblemCode {
    fn verdict(self) -> Verdict {
        match self {
            Self::DumpIncomplete | Self::NotInAStockDump => Verdict::Incomplete,
            _ => Verdict::Failed,
        }
    }
}

/// Where problems are gathered.
#[derive(Debug, Default)]
struct Problems(Vec<Problem>);

impl Problems {
    fn add(
        &mut self,
        code: ProblemCode,
        link: Option<&str>,
        file: Option<&str>,
        text: impl Into<String>,
    ) {
        self.0.push(Problem {
            code,
            link: link.map(str::to_owned),
            file: file.map(str::to_owned),
            text: text.into(),
        });
    }
}

impl Report {
    /// The document as bytes: one line, sealed with a checksum.
    pub fn to_json(&self) -> serde_json::Result<Vec<u8>> {
        sealed::seal(self)
    }
}

/// Checks links.
///
/// # Errors
/// It was cancelled. Whatever is wrong with the links is in the report.
pub fn run(job: &Job, progress: &dyn Progress) -> Result<Report, Cancelled> {
    let mut problems = Problems::default();
    let mut notes = Vec::new();
    let blocks = job.blocks.as_deref().and_then(|path| {
        let blocks = load_blocks(path).map_err(|error| {
            let code = match &error {
                LocalFileError::Blocks(BlocksError::Newer(_)) => ProblemCode::NewerFormat,
                _ => ProblemCode::BlocksUnusable,
            };
            problems.add(code, None, path.to_str(), error.to_string());
        });
        Some((path, blocks.ok()?))
    });
    if let [store] = job.links.as_slice()
        && matches!(store.holds(MANIFEST), Ok(false))
        && let Some(dump) = stock::Dump::find(&**store)
    {
        let report = stock_dump(&dump, blocks, problems, progress);
        progress.go_on()?;
        return Ok(report);
    }
    let mut coverage = blocks.map(|(path, blocks)| Coverage::of(path, blocks));
    let mut links = Vec::new();
    let mut before: Option<Checked> = None;
    for (number, store) in job.links.iter().enumerate() {
        let place = store.place("");
        let opened = open(store, &mut problems);
        let step = format!("checking {place} ({} of {})", number + 1, job.links.len());
        let bytes = opened.as_ref().map_or(0, Link::bytes);
        progress.step(&step, Unit::Bytes, bytes);
        let Some(opened) = opened else {
            links.push(LinkReport {
                directory: place,
                kind: Kind::Unknown,
                manifest: None,
                files: 0,
                bytes: 0,
                rows: 0,
            });
            before = None;
            continue;
        };
        if number == 0
            && let Some(parent) = &opened.manifest.parent
        {
            notes.push(format!(
                "{place} follows link {}, which was not given: the chain was checked from here on",
                parent.id
            ));
        }
        let check = link::Check {
            threads: job.threads,
            progress,
            is_first: number == 0,
        };
        let (report, checked) = check.run(
            opened,
            before.take(),
            coverage.as_mut(),
            &mut problems,
            &mut notes,
        );
        links.push(report);
        before = Some(checked);
    }
    let blocks =
        coverage.map(|coverage| coverage.finish(before.as_ref(), &mut problems, &mut notes));
    // A check that was cut short proves nothing.
    progress.go_on()?;
    Ok(finish(links, blocks, problems, notes))
}

fn finish(
    links: Vec<LinkReport>,
    blocks: Option<BlocksReport>,
    problems: Problems,
    notes: Vec<String>,
) -> Report {
    let verdicts = problems.0.iter().map(|problem| problem.code.verdict());
    let result = verdicts.max_by_key(|verdict| *verdict as u8);
    Report {
        format: FORMAT,
        written_by: format!("incremental-bitmap {}", env!("CARGO_PKG_VERSION")),
        checked: jiff::Timestamp::now().to_string(),
        result: result.unwrap_or(Verdict::Intact),
        links,
        blocks,
        problems: problems.0,
        notes,
    }
}

fn stock_dump(
    dump: &stock::Dump<'_>,
    blocks: Option<(&Path, Blocks)>,
    mut problems: Problems,
    progress: &dyn Progress,
) -> Report {
    let place = dump.place();
    progress.step(&format!("checking {place}"), Unit::Bytes, 0);
    let mut wanted = blocks
        .as_ref()
        .map(|(path, blocks)| stock::Wanted::of(path, blocks));
    let read = stock::check(dump, wanted.as_mut(), progress, &mut problems);
    let report = wanted.map(|wanted| wanted.finish(&mut problems));
    let link = LinkReport {
        directory: place.clone(),
        kind: Kind::Taosdump,
        manifest: None,
        files: read.files,
        bytes: read.bytes,
        rows: read.rows,
    };
    let note = format!(
        "{place}: a dump of an unpatched taosdump has no checksums: its files were decoded, and nothing shows whether one is \
         missing that no list of blocks names"
    );
    finish(vec![link], report, problems, vec![note])
}

fn open(store: &Arc<dyn Store>, problems: &mut Problems) -> Option<Link> {
    let error = match Link::open(Arc::clone(store)) {
        Ok(link) => return Some(link),
        Err(error) => error,
    };
    let (code, file) = match &error {
        LinkError::NotALink { .. } => (ProblemCode::NotALink, None),
        LinkError::Store(_) => (ProblemCode::FileUnreadable, Some(MANIFEST)),
        LinkError::Newer(_) => (ProblemCode::NewerFormat, Some(MANIFEST)),
        _ => (ProblemCode::ManifestDamaged, Some(MANIFEST)),
    };
    problems.add(code, Some(&store.place("")), file, error.to_string());
    None
}
