//! The rules between states as C sees them.

use crate::{
    boundary::boundary,
    codes::{Code, state},
    header::EBlockState,
};
use bitmap::{BlockState, Mark};
use std::ffi::{CStr, c_char};

fn is_transition(from: BlockState, to: BlockState) -> bool {
    let mark = match to {
        BlockState::Clean => Mark::Clear,
        BlockState::Dirty => Mark::Dirty,
        BlockState::New => Mark::New,
        BlockState::Deleted => Mark::Deleted,
    };
    from.after(mark) == Ok(to)
}

/// See `bitmap_engine.h`.
#[unsafe(no_mangle)]
pub extern "C" fn bitmap_engine_validate_state_transition(
    from: EBlockState,
    to: EBlockState,
) -> i32 {
    boundary(Code::INTERNAL, || match (state(from), state(to)) {
        (Some(from), Some(to)) if is_transition(from, to) => Code::SUCCESS,
        (Some(_), Some(_)) => Code::INVALID_STATE_TRANS,
        _ => Code::INVALID_PARAM,
    })
    .0
}

/// See `bitmap_engine.h`.
#[unsafe(no_mangle)]
pub extern "C" fn bitmap_engine_get_state_transition_error(
    from: EBlockState,
    to: EBlockState,
) -> *const c_char {
    use BlockState::{Deleted, Dirty, New};
    let text: &'static CStr = boundary(c"internal error", || match (state(from), state(to)) {
        (None, _) | (_, None) => c"there is no such state",
        (Some(from), Some(to)) if is_transition(from, to) => c"the transition is allowed",
        (Some(New), Some(Dirty)) => c"a NEW block stays NEW when it is written",
        (Some(Dirty), Some(New)) => c"a DIRTY block exists already: it can't be created",
        (Some(Deleted), Some(_)) => c"a DELETED block must become CLEAN first",
        _ => c"the transition is not allowed",
    });
    text.as_ptr()
}
