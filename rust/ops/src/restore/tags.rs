//! Setting tags of children that are there, over several connections. The server sets those of one child at a time, and
//! is asked for hundreds of thousands where a tag was added and filled.

use super::{Apply, Failures, RestoreError, RestoreJob};
use model::{Progress, catalogue::Column, pool};
use parking_lot::Mutex;
use server::{Connection, Library, ddl};

/// So many children wait until they are set together.
const TOGETHER: usize = 10_000;

/// Children whose tags are to be set.
pub(super) struct TagSetter<'a> {
    setter: Setter<'a>,
    waiting: Vec<Child>,
}

/// What the threads share.
struct Setter<'a> {
    job: &'a RestoreJob,
    library: &'a Library,
    target: &'a str,
    progress: &'a dyn Progress,
    failures: &'a Failures,
    tags: &'a [Column],
    /// Connections that nobody uses now.
    idle: Mutex<Vec<Connection>>,
}

/// A child, and its tags as literals.
struct Child {
    name: String,
    literals: Vec<Vec<u8>>,
}

impl<'a> TagSetter<'a> {
    /// For children of a super table that has these tags.
    pub(super) fn new(apply: &'a Apply<'a>, tags: &'a [Column]) -> Self {
        Self {
            setter: Setter {
                job: apply.job,
                library: apply.library,
                target: apply.target,
                progress: apply.progress,
                failures: &apply.failures,
                tags,
                idle: Mutex::default(),
            },
            waiting: Vec::new(),
        }
    }

    /// Takes a child on, and sets the tags of all that wait once they are many.
    pub(super) fn add(&mut self, name: String, literals: Vec<Vec<u8>>) -> Result<(), RestoreError> {
        self.waiting.push(Child { name, literals });
        match self.waiting.len() {
            ..TOGETHER => Ok(()),
            _ => self.set(),
        }
    }

    /// Sets the tags of all that wait. What the server refuses is kept as a failure.
    pub(super) fn set(&mut self) -> Result<(), RestoreError> {
        let children = std::mem::take(&mut self.waiting);
        let setter = &self.setter;
        let worker = || Worker {
            idle: &setter.idle,
            connection: setter.idle.lock().pop(),
        };
        pool::run(&children, setter.job.threads, worker, |worker, child| {
            setter.progress.go_on()?;
            let connection = match &mut worker.connection {
                Some(connection) => connection,
                none => none.insert(setter.library.connect(&setter.job.login)?),
            };
            setter.one(connection, child);
            setter.progress.advance(1, 0);
            Ok(())
        })
    }
}

impl Setter<'_> {
    /// Sets the tags of one child: all at once, or, where that is refused for what it is, each of them.
    fn one(&self, connection: &Connection, child: &Child) {
        let set = |tags: &[Column], literals: &[Vec<u8>]| {
            let values = tags.iter().zip(literals);
            let statement = ddl::set_tags(self.target, &child.name, values);
            connection.execute_until_cancelled(&statement, self.progress)
        };
        let outcomes = match set(self.tags, &child.literals) {
            Err(error) if error.is_of_the_statement() && self.tags.len() > 1 => {
                let each = self.tags.chunks(1).zip(child.literals.chunks(1));
                each.map(|(tag, literal)| set(tag, literal)).collect()
            }
            outcome => vec![outcome],
        };
        for error in outcomes.into_iter().filter_map(Result::err) {
            self.failures.add(error.to_string());
        }
    }
}

/// Gives its connection back when it ends.
struct Worker<'a> {
    idle: &'a Mutex<Vec<Connection>>,
    connection: Option<Connection>,
}

impl Drop for Worker<'_> {
    fn drop(&mut self) {
        self.idle.lock().extend(self.connection.take());
    }
}
