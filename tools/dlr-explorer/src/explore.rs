// SPDX-License-Identifier: Apache-2.0 OR MIT

//! The search: a run asks [`choose`] wherever it could go on in more than one way, and is repeated
//! until each combination of answers was given.
//!
//! Nothing is kept of a run but its trail of answers. A run begins with the answers of its trail
//! and answers 0 from there on; the next trail is the last one with its last answer that can grow
//! grown by one (depth first).

use std::cell::RefCell;

/// An answer, and the number of possible ones.
#[derive(Clone, Copy)]
struct Answer {
    given: usize,
    of: usize,
}

#[derive(Default)]
struct Trail {
    answers: Vec<Answer>,
    at: usize,
}

thread_local! {
    static TRAIL: RefCell<Trail> = RefCell::default();
}

/// A number below `of`, which is not 0: each of them in another run.
pub(crate) fn choose(of: usize) -> usize {
    TRAIL.with_borrow_mut(|trail| {
        let at = trail.at;
        if of == 1 {
            return 0;
        }
        trail.at += 1;
        match trail.answers.get(at) {
            Some(answer) => {
                assert_eq!(
                    answer.of, of,
                    "the run is not the same with the same answers"
                );
                answer.given
            }
            None => {
                trail.answers.push(Answer { given: 0, of });
                0
            }
        }
    })
}

/// Runs `run` with all trails until it fails. Returns the number of runs.
///
/// # Errors
///
/// The first one of `run`.
pub(crate) fn explore<E>(mut run: impl FnMut() -> Result<(), E>) -> Result<u64, E> {
    TRAIL.take();
    let mut runs = 0;
    loop {
        runs += 1;
        TRAIL.with_borrow_mut(|trail| trail.at = 0);
        run()?;
        let more = TRAIL.with_borrow_mut(|trail| {
            assert_eq!(trail.at, trail.answers.len(), "a run ended early");
            while let Some(last) = trail.answers.last_mut() {
                last.given += 1;
                if last.given < last.of {
                    return true;
                }
                trail.answers.pop();
            }
            false
        });
        if !more {
            return Ok(runs);
        }
    }
}
