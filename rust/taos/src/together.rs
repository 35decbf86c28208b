//! Statements that do not wait for each other: one connection sends many, and waits for all of their answers. To change
//! threads for each answer costs the library more than a small statement itself.

use crate::{
    Connection, SqlError,
    api::{Api, Handle},
    connection::result_error,
};
use parking_lot::{Condvar, Mutex};
use std::{
    ffi::{CString, c_int, c_void},
    sync::Arc,
};

/// The answers to some statements. Whoever waits for them is woken once, by the last one.
#[derive(Default)]
struct Answers {
    told: Mutex<Told>,
    all_told: Condvar,
}

#[derive(Default)]
struct Told {
    /// How many are still to come.
    missing: usize,
    errors: Vec<(usize, SqlError)>,
}

impl Answers {
    fn tell(&self, number: usize, outcome: Result<(), SqlError>) {
        let mut told = self.told.lock();
        if let Err(error) = outcome {
            told.errors.push((number, error));
        }
        told.missing = told.missing.saturating_sub(1);
        if told.missing == 0 {
            self.all_told.notify_one();
        }
    }

    /// Waits for all answers; returns those that are errors, with the numbers of their statements.
    fn errors(&self) -> Vec<(usize, SqlError)> {
        let mut told = self.told.lock();
        while told.missing > 0 {
            self.all_told.wait(&mut told);
        }
        std::mem::take(&mut told.errors)
    }
}

/// What the answer to a statement needs to be told.
struct Waiting {
    /// Lives until the answer was told.
    api: *const Api,
    number: usize,
    answers: Arc<Answers>,
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
    waiting.answers.tell(waiting.number, outcome);
}

impl Connection {
    /// Runs statements that have no rows to return, all of them at a time and in no order, and waits for all answers: one
    /// for each, in the order of the statements. What the server is too busy for is not asked again.
    pub fn execute_together<S: AsRef<[u8]>>(&self, statements: &[S]) -> Vec<Result<(), SqlError>> {
        let answers = Arc::new(Answers::default());
        answers.told.lock().missing = statements.len();
        for (number, sql) in statements.iter().enumerate() {
            let Ok(text) = CString::new(sql.as_ref()) else {
                let error = SqlError::local("a statement can't hold a NUL");
                answers.tell(number, Err(error));
                continue;
            };
            let waiting = Box::into_raw(Box::new(Waiting {
                api: &raw const *self.api,
                number,
                answers: Arc::clone(&answers),
            }));
            // SAFETY: the connection is live, and this function keeps it until all answers were told; the library copies
            // the statement, which is NUL-terminated, and tells its answer once.
            unsafe {
                (self.api.query_a)(self.handle, text.as_ptr(), answered, waiting.cast());
            }
        }
        let mut outcomes: Vec<Result<(), SqlError>> = statements.iter().map(|_| Ok(())).collect();
        for (number, error) in answers.errors() {
            if let (Some(outcome), Some(sql)) = (outcomes.get_mut(number), statements.get(number)) {
                let shown = String::from_utf8_lossy(sql.as_ref()).replace('\0', "\\0");
                *outcome = Err(error.in_sql(&shown));
            }
        }
        outcomes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;

    #[test]
    fn all_answers_are_waited_for_and_errors_keep_their_numbers() {
        let answers = Arc::new(Answers::default());
        answers.told.lock().missing = 100;
        let told = |number: usize| {
            let failed = || SqlError::local(number.to_string());
            (number % 10 != 7).then_some(()).ok_or_else(failed)
        };
        let errors = thread::scope(|scope| {
            for thread in 0..4 {
                let answers = Arc::clone(&answers);
                scope.spawn(move || {
                    for number in (thread..100).step_by(4) {
                        answers.tell(number, told(number));
                    }
                });
            }
            answers.errors()
        });
        let mut numbers: Vec<usize> = errors.iter().map(|(number, _)| *number).collect();
        numbers.sort_unstable();
        assert_eq!(numbers, [7, 17, 27, 37, 47, 57, 67, 77, 87, 97]);
        assert!(errors.iter().all(|(n, error)| error.text == n.to_string()));
        assert!(Answers::default().errors().is_empty());
    }
}
