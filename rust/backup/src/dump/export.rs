//! Exporting a list of blocks: the rows that a detection named, read from the server into a directory like a link's.
//!
//! An export follows no other link and can't be a base, since nobody knows what was copied before the detection. A
//! restore applies it to a database that exists, which is then as the server was, if it was before as it was at the
//! start of the detection.

use super::{
    Databases, Dump, DumpError, DumpJob, DumpOutcome, Known, OutDir, Progress, cluster_id,
};
use crate::{
    catalogue::{self, Catalogue, Table},
    checkpoint::Checkpoint,
    data_file::{Compression, FileEntry},
    link::{DatabaseLink, Link, Manifest, Totals},
    plan::{Ordinals, Plan},
    report::Blocks,
};
use bitmap::BlockState;
use capture::KnownVnode;
use std::{collections::HashSet, path::PathBuf};
use taos::{Library, Login};
use tdfiles::{DbId, Uid};

/// What to export, and how.
#[derive(Debug)]
pub struct ExportJob {
    /// Where to connect.
    pub login: Login,
    /// What changed.
    pub blocks: Blocks,
    /// The directory to write to.
    pub out: PathBuf,
    /// How many connections read rows.
    pub threads: usize,
    /// How data files are compressed.
    pub compression: Compression,
}

/// Exports blocks.
pub fn export(
    job: ExportJob,
    library: &Library,
    progress: &dyn Progress,
) -> Result<DumpOutcome, DumpError> {
    let Blocks {
        database,
        precision,
        plan,
    } = job.blocks;
    let checkpoint = Checkpoint {
        database: database.clone(),
        precision,
        window: plan.window,
        vgroups: plan
            .vgroups
            .iter()
            .map(|vgroup| {
                let known = KnownVnode {
                    db_id: vgroup.db_id.unwrap_or(DbId(0)),
                    hash_range: (0, 0),
                    compactions: Default::default(),
                };
                (vgroup.vgroup, (vgroup.to, known))
            })
            .collect(),
        ordinals: Ordinals::default(),
    };
    let job = DumpJob {
        login: job.login,
        databases: Databases::Named(vec![database.clone()]),
        out: job.out,
        base: None,
        data_dirs: Vec::new(),
        no_flush: true,
        threads: job.threads,
        compression: job.compression,
    };
    let mut out = OutDir::open(&job.out)?;
    let connection = library.connect(&job.login)?;
    let cluster = cluster_id(&connection)?;
    let server = connection.server_version();
    let server = server.lines().next().unwrap_or_default().to_owned();
    let mut manifest = Manifest::new(cluster, server, None);
    manifest.export = true;
    let dump = Dump {
        job: &job,
        library,
        connection: &connection,
        base: None,
        dirs: &[],
        progress,
    };
    progress.step(&format!("reading the catalogue of {database}"));
    let catalogue = catalogue::read(&connection, &database)?;
    if catalogue.database.precision != precision {
        return Err(DumpError::Blocks {
            database,
            problem: format!(
                "its keys are in {}, those of the list of blocks in {precision}",
                catalogue.database.precision
            ),
        });
    }
    let known = before(&catalogue, &plan);
    let uids: HashSet<Uid> = catalogue.tables.values().map(|table| table.uid).collect();
    let dumped = dump.write(&mut out, 0, catalogue, Some(&known), &plan, &checkpoint)?;
    manifest.failures = dumped.failures;
    manifest.not_covered = dumped.not_covered;
    manifest.files = dumped.files;
    manifest.databases.push(dumped.link);
    manifest.files.push(out.write_main_dbs_sql(&manifest)?);
    manifest.finished = jiff::Timestamp::now().to_string();
    progress.step("sealing");
    out.seal(&manifest)?;
    let mut notes = dumped.notes;
    let unnamed = plan.tables.iter().filter(|table| {
        let name = table.name.as_ref();
        name.is_none() && !uids.contains(&table.table.uid)
    });
    match unnamed.count() {
        0 => {}
        count => notes.push(format!(
            "{count} tables of the list of blocks are gone and have no name in it: they stay where the export is restored"
        )),
    }
    Ok(DumpOutcome {
        link: Link::open(&job.out)?,
        notes,
    })
}

/// The catalogue as it was before the changes, as far as a plan says it.
fn before(now: &Catalogue, plan: &Plan) -> Known {
    let entry = FileEntry {
        path: String::new(),
        bytes: 0,
        sha256: String::new(),
        rows: 0,
    };
    let mut tables = now.tables.clone();
    // Without digests all tags count as changed: a plan does not say whether they did.
    for table in tables.values_mut() {
        table.tags = None;
    }
    let named = || {
        let tables = plan.tables.iter();
        tables.filter_map(|table| Some((table, table.name.as_ref()?)))
    };
    for (_, name) in named().filter(|(table, _)| table.state == BlockState::New) {
        tables.remove(name);
    }
    for (table, name) in named().filter(|(table, _)| table.state != BlockState::New) {
        if tables
            .get(name)
            .is_some_and(|now| now.uid == table.table.uid)
        {
            continue;
        }
        // Dropped, in the plan or since; perhaps another one has its name now.
        let gone = Table {
            name: name.clone(),
            uid: table.table.uid,
            vgroup: table.vgroup,
            stable: None,
            tags: None,
            schema: None,
            ttl: 0,
            comment: None,
        };
        tables.insert(name.clone(), gone);
    }
    let link = DatabaseLink {
        database: now.database.clone(),
        directory: String::new(),
        incremental: true,
        vgroups: Vec::new(),
        window: plan.window.ticks(),
        stables: now.stables.values().cloned().collect(),
        dropped_stables: Vec::new(),
        altered_stables: Vec::new(),
        tag_files: Vec::new(),
        tables: entry.clone(),
        changes: entry.clone(),
        checkpoint: entry,
        totals: Totals::default(),
    };
    Known { link, tables }
}
