//! The block engine: which blocks of which tables are clean, dirty, new or deleted.
//!
//! A block is the unit a backup copies: the rows of one table in one time window. This crate knows block
//! ids, their states and the rules between the states. It refuses to know where a change came from (that is
//! `capture`) and what a backup does with it (that is `backup`).

mod block;
mod state;
mod states;

pub use block::{BlockId, TableOrdinal, WindowNumber};
pub use state::{BlockState, Mark, StateTransitionError};
pub use states::BlockStates;
