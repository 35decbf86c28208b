//! The block engine: which blocks of which tables are clean, dirty, new or deleted.
//!
//! A block is the unit a backup copies: the rows of one table in one time window. This crate knows block
//! ids, their states and the rules between the states. It refuses to know where a change came from (that is
//! `capture`) and what a backup does with it (that is `backup`).

mod block;
mod bytes;
mod chunk;
mod config;
mod damage;
mod disk;
mod engine;
mod error;
mod head;
mod lone;
mod maintenance;
mod manifest;
mod memory;
mod pages;
mod place;
mod query;
mod radix;
mod record;
mod recovery;
mod row;
mod run;
mod seal;
mod shard;
mod state;
mod states;
mod status;
mod swap;
mod tables;
mod tree;

pub use block::{BlockId, TableOrdinal, WindowNumber};
pub use config::EngineConfig;
pub use damage::{DamageList, DamageToken, DamagedRange};
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
