//! Whole vnode directories.

mod big;
mod builder;
mod commit;
mod config;
mod file_sets;
mod json;
mod ops;
mod save;
mod truth;

pub use big::{BigTruth, BigVnode, big, big_irregular};
pub use builder::VnodeBuilder;
pub use config::{Precision, VnodeConfig, WalKeep};
pub use json::VnodeJson;
pub use ops::Op;
pub use truth::{Key, TableInfo, Truth};
