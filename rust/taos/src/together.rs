//! Statements that do not wait for each other: one connection sends many, and waits for all of their answers. To change
//! threads for each answer costs the library more than a small statement itself.

use crate::{
    Connection, SqlError,
    api::{Api, Handle},
    connection::result_error,
};
use std::{
    ffi::{CString, c_int, c_void},
    sync::mpsc::{self, Sender},
};

/// What an answer needs to be told.
struct Waiting {
    /// Lives until all that wait have been answered.
    api: *const Api,
    number: usize,
    answers: Sender<(usize, Result<(), SqlError>)>,
}

/// Tells the answer to a statement. Called once for each, from a thread of the library or before the call returns.
///
/// # Safety
/// `waiting` is a `Box<Waiting>`, whose `api` lives; `result` is null or live, and nobody else's.
unsafe extern "C" fn answered(waiting: *mut c_void, result: Handle, code: c_int) {
    // SAFETY: as above.
    let waiting = unsafe { Box::from_raw(waiting.cast::<Waiting>()) };
    // SAFETY: as above; the result is not used any more.
    let outcome = unsafe {
        let api = &*waiting.api;
        let outcome = match code {
            0 => Ok(()),
            code => Err(SqlError {
                code: code as u32,
                ..result_error(api, result)
            }),
        };
        if !result.is_null() {
            (api.free_result)(result);
        }
        outcome
    };
    // Whoever asked waits until nobody can send any more.
    let _ = waiting.answers.send((waiting.number, outcome));
}

impl Connection {
    /// Runs statements that have no rows to return, all of them at a time and in no order, and waits for all answers: one
    /// for each, in the order of the statements. What the server is too busy for is not asked again.
    pub fn execute_together<S: AsRef<[u8]>>(&self, statements: &[S]) -> Vec<Result<(), SqlError>> {
        let unanswered = || Err(SqlError::local("the client library gave no answer"));
        let mut outcomes: Vec<_> = statements.iter().map(|_| unanswered()).collect();
        let (sender, answers) = mpsc::channel();
        for (number, (sql, outcome)) in statements.iter().zip(&mut outcomes).enumerate() {
            let Ok(text) = CString::new(sql.as_ref()) else {
                *outcome = Err(SqlError::local("a statement can't hold a NUL"));
                continue;
            };
            let waiting = Box::into_raw(Box::new(Waiting {
                api: &raw const *self.api,
                number,
                answers: sender.clone(),
            }));
            // SAFETY: the connection is live, and this function keeps it until all answers were told; the library copies
            // the statement, which is NUL-terminated, and tells its answer once.
            unsafe {
                (self.api.query_a)(self.handle, text.as_ptr(), answered, waiting.cast());
            }
        }
        drop(sender);
        // Ends when all of them were answered: each has a sender until then.
        for (number, answer) in answers {
            if let Some(outcome) = outcomes.get_mut(number) {
                *outcome = answer;
            }
        }
        let in_sql = |(outcome, sql): (Result<(), SqlError>, &S)| {
            let shown = || String::from_utf8_lossy(sql.as_ref()).replace('\0', "\\0");
            outcome.map_err(|error| error.in_sql(&shown()))
        };
        outcomes.into_iter().zip(statements).map(in_sql).collect()
    }
}
