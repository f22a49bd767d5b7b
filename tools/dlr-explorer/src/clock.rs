// SPDX-License-Identifier: Apache-2.0 OR MIT

//! The NIC's clock: it stands still until the explorer moves it.

use std::{
    cell::Cell,
    time::{Duration, Instant},
};

use crate::stops::{stop, Stop};

thread_local! {
    static PASSED: Cell<Duration> = const { Cell::new(Duration::ZERO) };
    static START: Instant = Instant::now();
}

/// The NIC's time.
pub(crate) fn now() -> Instant {
    START.with(|start| *start + PASSED.get())
}

/// Moves the clock.
pub(crate) fn advance(by: Duration) {
    PASSED.set(PASSED.get() + by);
}

/// What a sabotaged NIC calls in the middle of a step: its function may write meanwhile.
#[allow(dead_code)]
pub(crate) fn sleep(by: Duration) {
    advance(by);
    stop(Stop::Sleep);
}

/// Where a sabotaged NIC starts a thread: the run ends before that does anything.
pub(crate) fn after_the_run(_name: String, _: impl FnOnce()) -> Result<(), &'static str> {
    Ok(())
}
