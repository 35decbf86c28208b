//! Exporting a list of blocks: the rows that a detection named, read from the server into a directory like a link's.
//!
//! An export follows no other link and can't be a base, since nobody knows what was copied before the detection. A
//! restore applies it to a database that exists, which is then as the server was, if it was before as it was at the
//! start of the detection.

use crate::{
    backup::{
        self, BackupError, BackupJob, BackupOutcome, Changed, Databases, Known, RowsFormat, Server,
        Writing, output::Output,
    },
    watch::{self, Watch, Work},
    watermark,
};
use bitmap::BlockState;
use capture::KnownVnode;
use model::{
    DbId, Progress, Uid, Unit, Version, VgId,
    catalogue::{Catalogue, Table, Tables},
};
use plan::{Ordinals, Plan, TablePlan, checkpoint::Checkpoint, report::Blocks};
use repository::link::{DatabaseLink, Manifest, Totals};
use rows::avro::Compression;
use server::{
    Library, Login,
    catalogue::{self, CatalogueError},
    cluster, database as databases,
};
use std::{
    collections::{BTreeMap, HashSet},
    path::PathBuf,
};
use store::FileEntry;

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
pub fn run(
    job: ExportJob,
    library: &Library,
    progress: &dyn Progress,
) -> Result<BackupOutcome, BackupError> {
    let watch = Watch::new(Work::Dump, job.login.to_string());
    let question = watch::question(library, &job.login);
    let outcome = watch.over(progress, question, |progress| {
        copy(job, library, progress, &watch)
    });
    backup::unless_given_up(outcome, &watch)
}

/// Exports blocks, while somebody looks whether the server is there.
fn copy(
    job: ExportJob,
    library: &Library,
    progress: &dyn Progress,
    watch: &Watch,
) -> Result<BackupOutcome, BackupError> {
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
    let job = BackupJob {
        login: job.login,
        databases: Databases::Named(vec![database.clone()]),
        out: job.out,
        base: None,
        check_base: false,
        data_dirs: Vec::new(),
        no_flush: true,
        offline: false,
        threads: job.threads,
        compression: job.compression,
        rows: RowsFormat::Avro,
    };
    let mut out = Output::open(&job.out)?;
    let connection = library.connect(&job.login)?;
    watch.has_endpoints(&cluster::endpoints(&connection)?);
    let cluster = cluster::id(&connection)?;
    let mut manifest = Manifest::new(cluster, cluster::version(&connection), None);
    manifest.export = true;
    let writing = Writing {
        job: &job,
        base: None,
        tags: None,
        server: Some(Server {
            library,
            connection: &connection,
            watch,
        }),
        progress,
    };
    // What was found in the log is not applied yet for sure: queries would not see it, and nobody would look for it again.
    if databases::created(&connection, &database)?.is_none() {
        return Err(CatalogueError::NoDatabase(database).into());
    }
    let found = plan.vgroups.iter().filter(|vgroup| vgroup.db_id.is_some());
    let versions = found.map(|vgroup| (vgroup.vgroup, vgroup.to)).collect();
    watermark::wait_applied(&connection, &database, &versions, progress)?;
    let step = format!("reading the catalogue of {database}");
    progress.step(&step, Unit::Tables, 0);
    let catalogue = catalogue::read(&connection, &database)?;
    if catalogue.database.precision != precision {
        return Err(BackupError::Blocks {
            database,
            problem: format!(
                "its keys are in {}, those of the list of blocks in {precision}",
                catalogue.database.precision
            ),
        });
    }
    let known = before(&catalogue, &plan);
    let uids: HashSet<Uid> = catalogue.tables.values().map(|table| table.uid).collect();
    let changed = Changed {
        plan: &plan,
        checkpoint: &checkpoint,
        rows: &BTreeMap::new(),
    };
    let done = writing.write(&mut out, 0, catalogue, Some(&known), changed)?;
    manifest.failures = done.failed.iter().map(ToString::to_string).collect();
    manifest.not_covered = done.not_covered;
    manifest.files = done.files;
    manifest.databases.push(done.link);
    let mut notes = done.notes;
    if done.has_blobs {
        notes.push(format!(
            "database {database} has BLOB columns: one that was updated since the last flush is NULL in the export, as the \
             server gives it; send FLUSH DATABASE before an export"
        ));
    }
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
    notes.extend(plan.unseen_drops());
    for vgroup in plan.vgroups.iter().filter(|vgroup| vgroup.db_id.is_none()) {
        let texts = vgroup.reasons.iter().map(|reason| &reason.text);
        notes.extend(texts.map(|text| format!("vgroup {}: {text}", vgroup.vgroup)));
    }
    watch.is_over();
    Ok(BackupOutcome {
        exact: plan.is_exact(),
        link: backup::finish(out, manifest, &job.out, progress)?,
        notes,
        failed: done.failed,
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
    // Without digests all tags count as changed: a plan does not say whether they did.
    let without_tags = |table: &Table| Table {
        tags: None,
        ..table.clone()
    };
    let mut tables: Tables = now.tables.values().map(without_tags).collect();
    let gone = |name: &str, uid: Uid, vgroup: VgId| Table {
        name: name.to_owned(),
        uid,
        vgroup,
        stable: None,
        tags: None,
        schema: None,
        ttl: 0,
        comment: None,
    };
    let named = || {
        let tables = plan.tables.iter();
        tables.filter_map(|table| Some((table, table.name.as_ref()?)))
    };
    // Where everything since the beginning was found, there was nothing before.
    let is_first = |table: &TablePlan| {
        let mut vgroups = plan.vgroups.iter();
        vgroups.any(|vgroup| {
            vgroup.vgroup == table.vgroup && vgroup.from == Version::BEGINNING && vgroup.complete
        })
    };
    for (table, name) in named().filter(|(table, _)| table.state == BlockState::New) {
        if is_first(table) {
            tables.remove(name);
        } else {
            // A request to create a table is logged even if the table exists, and what it replaces may have gone
            // without a name: so whatever has the name goes. No table has this uid.
            tables.insert(gone(name, Uid(0), table.vgroup));
        }
    }
    for (table, name) in named().filter(|(table, _)| table.state != BlockState::New) {
        if tables
            .get(name)
            .is_some_and(|now| now.uid == table.table.uid)
        {
            continue;
        }
        // Dropped, in the plan or since; perhaps another one has its name now.
        tables.insert(gone(name, table.table.uid, table.vgroup));
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
        row_files: Vec::new(),
        bitmaps: None,
        tables: entry.clone(),
        changes: entry.clone(),
        checkpoint: entry,
        totals: Totals::default(),
    };
    Known { link, tables }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backup::Changes;
    use model::{
        Key, KeySpan, Precision, Suid, TableId,
        catalogue::{Database, Schema},
    };
    use plan::window::WindowWidth;
    use std::collections::BTreeMap;

    /// An insert that creates its table is logged the same way for a table that exists.
    #[test]
    fn deletes_in_a_table_that_only_seems_new_are_exported() {
        let schema = Schema {
            columns: Vec::new(),
            tags: Vec::new(),
            options: String::new(),
        };
        let table = Table {
            name: "t".to_owned(),
            uid: Uid(1),
            vgroup: VgId(2),
            stable: None,
            tags: None,
            schema: Some(Box::new(schema)),
            ttl: 0,
            comment: None,
        };
        let now = Catalogue {
            database: Database {
                name: "d".to_owned(),
                create: String::new(),
                precision: Precision::Milliseconds,
            },
            stables: BTreeMap::new(),
            tables: [table].into_iter().collect(),
            not_covered: Vec::new(),
            unreadable_stables: Default::default(),
            unreadable: BTreeMap::new(),
        };
        let changed = TablePlan {
            vgroup: VgId(2),
            table: TableId {
                suid: Suid(0),
                uid: Uid(1),
            },
            name: Some("t".to_owned()),
            state: BlockState::New,
            rows: Some(1),
            spans: vec![KeySpan::at(Key(10))],
            deletes: vec![(KeySpan::at(Key(5)), Version(7))],
        };
        let plan = Plan {
            tables: vec![changed],
            blocks: Vec::new(),
            vgroups: Vec::new(),
            super_tables_dropped: false,
            window: WindowWidth::from_ticks(1_000).unwrap(),
        };
        let known = before(&now, &plan);
        let changes = Changes::between(Some(&known), &now, &plan, None).unwrap();
        let change = &changes.tables["t"];
        assert_eq!(change.spans, [KeySpan::ALL]);
        assert!(change.drop, "the row with key 5 stays where it is restored");
    }
}
