//! Links that follow each other.

use crate::link::{Link, LinkError};
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
