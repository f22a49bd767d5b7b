// SPDX-License-Identifier: Apache-2.0 OR MIT

//! What the calls of `drive` have in common: answers, bytes as digits, and locks.

use std::sync::{Mutex, MutexGuard, PoisonError};

use anyhow::{bail, Context};
use serde_json::Value;

use super::reply::{Failure, Found};

/// What comes of a call.
pub(super) type Outcome = Result<Found, Failure>;

/// Takes a lock, also after a panic of another thread.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// An answer of these members.
pub(super) fn found<const N: usize>(members: [(&str, Value); N]) -> Found {
    let members = members.into_iter().map(|(k, v)| (k.to_owned(), v));
    members.collect()
}

/// The bytes that hexadecimal digits stand for.
pub(super) fn unhex(digits: &str) -> anyhow::Result<Vec<u8>> {
    let digits = digits.as_bytes();
    if digits.len() % 2 != 0 {
        bail!("an odd number of hexadecimal digits");
    }
    let pairs = digits.chunks(2).map(|pair| {
        let text = std::str::from_utf8(pair)?;
        u8::from_str_radix(text, 16).with_context(|| format!("`{text}` is not hexadecimal"))
    });
    pairs.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_are_bytes() {
        assert_eq!(unhex("00ff7A").unwrap(), [0, 0xff, 0x7a]);
        assert!(unhex("0").is_err());
        assert!(unhex("0g").is_err());
    }
}
