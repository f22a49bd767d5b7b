// SPDX-License-Identifier: Apache-2.0 OR MIT

//! What is wrong with an answer.

use crate::check::{verdict::errno_name, walk::subject::Answer};

/// What is wrong.
pub(crate) type Judged = Result<(), String>;

/// Says what came instead.
fn told<T: std::fmt::Debug>(answer: &Answer<T>) -> String {
    match answer {
        Ok(value) => format!("gave {value:?}"),
        Err(errno) => format!("failed with {}", errno_name(*errno)),
    }
}

pub(crate) fn demand<T: std::fmt::Debug>(holds: bool, answer: &Answer<T>, wanted: &str) -> Judged {
    if holds {
        Ok(())
    } else {
        Err(format!("{} instead of {wanted}", told(answer)))
    }
}
