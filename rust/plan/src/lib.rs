//! What a backup has to copy, and where the next one starts. Nothing here knows how it is stored or copied.
//!
//! | module | holds |
//! |---|---|
//! | [`detect`] | a detection: data directories and a start in, plan and next checkpoint out |
//! | `plan` | the plan: vgroups, tables, blocks |
//! | `planner` | changes → blocks → merged spans of keys per table |
//! | [`window`] | how wide a block is |
//! | `numbering` | what block ids are made of |
//! | [`checkpoint`] | where the next run starts |
//! | [`report`] | the plan as JSON, format 1 |

pub mod checkpoint;
pub mod detect;
mod numbering;
mod plan;
mod planner;
pub mod report;
pub mod window;

pub use numbering::{Numbering, Ordinals};
pub use plan::{BlockPlan, Plan, TablePlan, VgroupPlan};
pub use planner::{Changes, Planner};
