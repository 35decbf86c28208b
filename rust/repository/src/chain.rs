//! Links that follow each other.

use crate::link::{Link, LinkError};
use model::LinkId;
use std::sync::Arc;
use store::Store;

/// Links that are no chain.
#[derive(Debug, thiserror::Error)]
pub enum ChainError {
    /// One of them can't be used.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// One does not follow the one before it.
    #[error(
        "{place} does not follow {before}: {problem}; give the links of one chain, the oldest first"
    )]
    Order {
        /// The link.
        place: String,
        /// The one before it.
        before: String,
        /// What is wrong.
        problem: String,
    },
}

/// Two links that no chain leads from one to the other.
#[derive(Debug, thiserror::Error)]
pub enum PathError {
    /// A link can't be used.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// They are one and the same.
    #[error("{first} and {second} are the same link, {id}")]
    Same {
        /// Where the first is.
        first: String,
        /// Where the second is.
        second: String,
        /// Its id.
        id: LinkId,
    },
    /// The second is older.
    #[error("{second} is older than {first}; give the older link first")]
    Reversed {
        /// The first.
        first: String,
        /// The second.
        second: String,
    },
    /// Going back from the second link, another one is needed first.
    #[error(
        "{first} and {second} are not known to be of one chain: {at} follows link {missing}, which lies beside neither of \
         them; give its directory, too"
    )]
    Missing {
        /// The first.
        first: String,
        /// The second.
        second: String,
        /// The last link that was found on the way.
        at: String,
        /// Its base.
        missing: LinkId,
    },
    /// The chain of the second link begins later, or is another one.
    #[error("{first} and {second} are not of one chain: {problem}")]
    Apart {
        /// The first.
        first: String,
        /// The second.
        second: String,
        /// What is wrong.
        problem: String,
    },
}

/// The links after `first`, up to `second`; `others` are what may lie between them.
///
/// # Errors
/// `second` does not come after `first`, or a link between them is not among the others.
pub fn path(first: &Link, second: Link, others: &[Link]) -> Result<Vec<Link>, PathError> {
    let (from, to) = (first.place(), second.place());
    if first.manifest.id == second.manifest.id {
        return Err(PathError::Same {
            first: from,
            second: to,
            id: second.manifest.id,
        });
    }
    let apart = |problem: String| PathError::Apart {
        first: from.clone(),
        second: to.clone(),
        problem,
    };
    if let Some(export) = [first, &second]
        .into_iter()
        .find(|link| link.manifest.export)
    {
        let problem = format!(
            "{} is an export of blocks, which is no part of a chain",
            export.place()
        );
        return Err(apart(problem));
    }
    match back(&second, first, others)? {
        Back::Arrived(mut path) => {
            path.reverse();
            path.push(second);
            Ok(path)
        }
        Back::Missing { at, missing } => {
            if let Back::Arrived(_) = back(first, &second, others)? {
                return Err(PathError::Reversed {
                    first: from,
                    second: to,
                });
            }
            Err(PathError::Missing {
                first: from,
                second: to,
                at,
                missing,
            })
        }
        Back::Wrong(problem) => match back(first, &second, others)? {
            Back::Arrived(_) => Err(PathError::Reversed {
                first: from,
                second: to,
            }),
            _ => Err(apart(problem)),
        },
    }
}

/// Where going back from a link leads.
enum Back {
    /// To the other one, past these.
    Arrived(Vec<Link>),
    /// To a link that is not there.
    Missing { at: String, missing: LinkId },
    /// To an end.
    Wrong(String),
}

/// Goes back from link `from` to link `to`.
fn back(from: &Link, to: &Link, others: &[Link]) -> Result<Back, PathError> {
    let mut passed: Vec<Link> = Vec::new();
    loop {
        let here = passed.last().unwrap_or(from);
        let Some(base) = &here.manifest.base else {
            let place = here.place();
            return Ok(Back::Wrong(format!(
                "{place} is the first link of its chain"
            )));
        };
        let known = [to].into_iter().chain(others);
        let Some(before) = known.into_iter().find(|link| link.manifest.id == base.id) else {
            return Ok(Back::Missing {
                at: here.place(),
                missing: base.id.clone(),
            });
        };
        if let Err(problem) = here.must_follow(before) {
            let (here, before) = (here.place(), before.place());
            return Ok(Back::Wrong(format!(
                "{here} does not follow {before}: {problem}"
            )));
        }
        if before.manifest.id == to.manifest.id {
            return Ok(Back::Arrived(passed));
        }
        // A link can't be reached twice: it names the SHA-256 of the one before.
        passed.push(before.clone());
    }
}

/// Opens links, the oldest first, and checks that each follows the one before.
///
/// # Errors
/// A link can't be used, or does not follow the one before.
pub fn open(stores: &[Arc<dyn Store>]) -> Result<Vec<Link>, ChainError> {
    let links: Vec<Link> = stores
        .iter()
        .map(|store| Link::open(Arc::clone(store)))
        .collect::<Result<_, _>>()?;
    for (link, before) in links.iter().skip(1).zip(&links) {
        if let Err(problem) = link.must_follow(before) {
            return Err(ChainError::Order {
                place: link.place(),
                before: before.place(),
                problem: problem.to_string(),
            });
        }
    }
    Ok(links)
}
