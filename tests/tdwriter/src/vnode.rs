//! Whole vnode directories.

mod big;
mod builder;
mod file_sets;
mod json;
mod ops;
mod truth;

pub use big::{BigTruth, BigVnode, big, big_irregular};
pub use builder::{Precision, VnodeBuilder, VnodeConfig, WalKeep};
pub use json::VnodeJson;
pub use ops::Op;
pub use truth::{Key, TableInfo, Truth};
