//! Creating tables and setting tags of children that are there, over several connections. Statements that are small go to
//! the server many at a time: it sets the tags of one child with each, and is asked for hundreds of thousands where a tag
//! was added and filled.

use super::{Apply, Failures, RestoreError, RestoreJob};
use model::{Progress, catalogue::Column, pool};
use server::{
    Connection, Library, SqlError,
    ddl::{self, CreateChildren},
    restore_lacks::Lacks,
};

/// So many small statements go to the server at a time over a connection, and so many bytes of them. With more it takes as
/// long, and the client library needs about 50 KiB for each.
pub(super) const TOGETHER: usize = 64;
const TOGETHER_BYTES: usize = 1 << 20;

/// What one connection does at a time.
pub(super) enum Job<'a> {
    /// Creates children of one super table.
    Children(CreateChildren),
    /// Runs these statements, each of which creates a normal table.
    Tables(Vec<String>),
    /// Sets these tags of children of one super table.
    Tags(&'a [Column], Vec<Child>),
}

/// A child, and the tags that it gets as literals.
pub(super) struct Child {
    pub(super) name: String,
    pub(super) literals: Vec<Vec<u8>>,
}

/// Whom jobs are given to; false once no further one is wanted.
pub(super) type Give<'g, 'a> = &'g mut dyn FnMut(Job<'a>) -> bool;

/// Does what `make` makes. What the server refuses is kept as a failure.
pub(super) fn run<'a>(
    apply: &Apply<'_>,
    make: impl FnOnce(Give<'_, 'a>) -> Result<(), RestoreError>,
) -> Result<(), RestoreError> {
    let setter = Setter {
        job: apply.job,
        library: apply.library,
        target: apply.target,
        progress: apply.progress,
        failures: &apply.failures,
    };
    let no_connection = || None;
    let each = |slot: &mut Option<Connection>, job: Job<'a>| {
        setter.progress.go_on()?;
        let connection = match slot {
            Some(connection) => connection,
            none => none.insert(setter.library.connect(&setter.job.login)?),
        };
        match &job {
            Job::Children(children) => setter.create(connection, children),
            Job::Tables(statements) => {
                for outcome in together(connection, statements, setter.progress) {
                    setter.keep(outcome);
                }
            }
            Job::Tags(tags, children) => setter.set(connection, tags, children),
        }
        setter.progress.advance(job.tables() as u64, 0);
        Ok(())
    };
    pool::feed(apply.job.threads, no_connection, each, |give| {
        make(&mut |job| job.tables() == 0 || give(job))
    })
}

impl Job<'_> {
    /// Of how many tables it is.
    fn tables(&self) -> usize {
        match self {
            Self::Children(children) => children.count(),
            Self::Tables(statements) => statements.len(),
            Self::Tags(_, children) => children.len(),
        }
    }
}

/// Runs small statements; again, one after the other, those that the server was too busy for.
pub(super) fn together<S: AsRef<[u8]>>(
    connection: &Connection,
    statements: &[S],
    progress: &dyn Progress,
) -> Vec<Result<(), SqlError>> {
    let outcomes = connection.execute_together(statements);
    let again = |(outcome, statement): (Result<(), SqlError>, &S)| match outcome {
        Err(error) if error.is_busy() => connection
            .execute_until_cancelled(statement.as_ref(), progress)
            .map(drop),
        outcome => outcome,
    };
    outcomes.into_iter().zip(statements).map(again).collect()
}

/// What the threads share.
struct Setter<'a> {
    job: &'a RestoreJob,
    library: &'a Library,
    target: &'a str,
    progress: &'a dyn Progress,
    failures: &'a Failures,
}

impl Setter<'_> {
    fn keep(&self, outcome: Result<(), SqlError>) {
        if let Err(error) = outcome {
            self.failures.add(error.to_string());
        }
    }

    /// Creates children. Where the statement is refused for what it is, each gets one of its own, so that the others are
    /// created all the same.
    fn create(&self, connection: &Connection, children: &CreateChildren) {
        let statement = children.statement();
        match connection.execute_until_cancelled(&statement, self.progress) {
            Err(error) if error.is_of_the_statement() => {
                let (names, statements): (Vec<&str>, Vec<Vec<u8>>) = children.each().unzip();
                let outcomes = together(connection, &statements, self.progress);
                for (name, outcome) in names.into_iter().zip(outcomes) {
                    match outcome {
                        Err(error) if error.is_of_the_statement() => {
                            let problem = format!("it can't be created: {error}");
                            self.failures.lacks(name, Lacks::Itself, problem);
                        }
                        outcome => self.keep(outcome),
                    }
                }
            }
            outcome => self.keep(outcome.map(drop)),
        }
    }

    /// Sets the tags of children: all of a child at once, or, where that is refused for what it is, each of them.
    fn set(&self, connection: &Connection, tags: &[Column], children: &[Child]) {
        let statement = |child: &Child, tags: &[Column], literals: &[Vec<u8>]| {
            ddl::set_tags(self.target, &child.name, tags.iter().zip(literals))
        };
        let all = children.iter();
        let all: Vec<Vec<u8>> = all
            .map(|child| statement(child, tags, &child.literals))
            .collect();
        let outcomes = together(connection, &all, self.progress);
        for (child, outcome) in children.iter().zip(outcomes) {
            match outcome {
                Err(error) if error.is_of_the_statement() && tags.len() > 1 => {
                    for (tag, literal) in tags.chunks(1).zip(child.literals.chunks(1)) {
                        let one = statement(child, tag, literal);
                        let set = connection.execute_until_cancelled(&one, self.progress);
                        self.keep(set.map(drop));
                    }
                }
                outcome => self.keep(outcome),
            }
        }
    }
}

/// Things that wait until they are many.
pub(super) struct Few<T> {
    things: Vec<T>,
    bytes: usize,
}

impl<T> Few<T> {
    pub(super) fn none() -> Self {
        Self {
            things: Vec::new(),
            bytes: 0,
        }
    }

    /// Adds one of so many bytes; returns all of them once they are many.
    pub(super) fn add(&mut self, thing: T, bytes: usize) -> Option<Vec<T>> {
        self.things.push(thing);
        self.bytes += bytes;
        (self.things.len() >= TOGETHER || self.bytes >= TOGETHER_BYTES).then(|| self.take())
    }

    /// Takes out all that wait.
    pub(super) fn take(&mut self) -> Vec<T> {
        self.bytes = 0;
        std::mem::take(&mut self.things)
    }
}

impl Child {
    /// How long its statement is, about.
    pub(super) fn bytes(&self) -> usize {
        let literals: usize = self.literals.iter().map(Vec::len).sum();
        self.name.len() + literals
    }
}
