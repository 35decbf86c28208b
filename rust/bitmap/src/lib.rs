//! The block engine: which blocks of which tables are clean, dirty, new or deleted.
//!
//! A block is the unit a backup copies: the rows of one table in one time window. This crate knows block
//! ids, their states and the rules between the states. Where a change came from and what a backup does with it are
//! no concern of this crate.
//!
//! What callers use:
//!
//! | module | holds |
//! |---|---|
//! | `engine` | the engine: marks, lookups and statistics |
//! | `query` | range queries by time and by WAL position, and their cursor |
//! | `damage`, `damaged_range` | ranges of blocks that count as DIRTY as a whole |
//! | `block` | block ids |
//! | `state` | the four states, marks, and the rules between them |
//! | `states` | the states of a set of blocks, without an engine |
//! | `record` | where and when a block was marked |
//! | `config`, `error` | an engine's settings, and what can go wrong |
//!
//! How the engine works, from the top down:
//!
//! | module | holds |
//! |---|---|
//! | `inner` | what all threads of an engine share |
//! | `marks` | marks and lookups of single blocks |
//! | `room` | the memory limit: what goes to disk, and when marks are refused |
//! | `persist` | how runs and manifests get to disk |
//! | `recovery` | what an engine does with the files it finds |
//! | `seal`, `radix` | heads become runs, sorted |
//! | `maintenance`, `wake` | merging, and the thread that does it |
//! | `shard` | states and newest marks under one lock |
//! | `head` | a shard's newest marks |
//! | `pages`, `swap` | a shard's states in pages, and the file that pages go to |
//! | `tables`, `lone`, `part_name`, `status` | one page: states by table and window, or block by block |
//! | `place` | in which shard, page and bucket a block's state is |
//! | `trees`, `tree` | all runs of an engine, in levels |
//! | `run`, `run_file`, `stored_run` | a sorted run, its file, and the layout of that |
//! | `chunk`, `row` | encoded rows, and what rows there are |
//! | `disk`, `manifest` | the directory, and the file that says which runs count |
//! | `memory`, `bytes` | the account of what is held in memory |

mod block;
mod bytes;
mod chunk;
mod config;
mod damage;
mod damaged_range;
mod disk;
mod engine;
mod error;
mod head;
mod inner;
mod lone;
mod maintenance;
mod manifest;
mod marks;
mod memory;
mod pages;
mod part_name;
mod persist;
mod place;
mod query;
mod radix;
mod record;
mod recovery;
mod room;
mod row;
mod run;
mod run_file;
mod seal;
mod shard;
mod state;
mod states;
mod status;
mod stored_run;
mod swap;
mod tables;
mod tree;
mod trees;
mod wake;

pub use block::{BlockId, TableOrdinal, WindowNumber};
pub use config::EngineConfig;
pub use damaged_range::{DamageList, DamageToken, DamagedRange};
pub use engine::Engine;
pub use error::{BatchError, EngineError};
pub use memory::MemoryUse;
pub use query::BlockCursor;
pub use record::{BlockRecord, MarkedAt, Timestamp, WalOffset};
pub use shard::BlockCounts;
pub use state::{BlockState, Mark, StateTransitionError};
pub use states::BlockStates;

/// The examples of the guide are tests.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/engine.md")]
struct Guide;
