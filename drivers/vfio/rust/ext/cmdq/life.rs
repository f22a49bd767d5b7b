// SPDX-License-Identifier: GPL-2.0

//! States of a command queue, and its next state after each observation. Without side effects.
//!
//! The hardware has a bit READY, which rises when it uses the rings and falls in a reset handshake,
//! a bit FATAL, and a reset of the whole function that ends all that the function does for its
//! users.
//!
//! ```text
//!    an abort is overdue or fails, bad completion  READY falls
//!      Up ───────────────────────────▶ Quieting ─────────────────▶ Enabling ──▶ Up
//!       ▲                                 │                          │ ▲
//!       │ next command, after a pause     │ too late, gone           │ │ RESET falls
//!       └────────  (as above)  ◀──── Off ◀┴──────────────────────────┘ │
//!                                    └────────────────▶ Resetting ─────┘
//!                                     second time and later
//! ```
//!
//! A recovery has no thread of its own: each thread that waits for a command advances it by a step.
//! If a signal or a budget ends that wait, the next thread that waits continues the recovery.

use kernel::prelude::*;

/// Time in milliseconds since the queue was created.
pub(crate) type Millis = u64;

/// State of the queue.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Life {
    /// The queue accepts commands.
    Up,
    /// A completion was invalid, or the state of the ring is unknown. A reset handshake must come
    /// next.
    Suspect,
    /// A reset handshake is under way: READY must fall.
    Quieting {
        /// Time at which the handshake is overdue.
        until: Millis,
    },
    /// A reset of the whole function is under way: RESET must fall.
    Resetting {
        /// Time at which the reset is overdue.
        until: Millis,
    },
    /// The driver has enabled the queue again, after the device let go of rings and buffers: READY
    /// must rise.
    Enabling {
        /// Time at which READY is overdue.
        until: Millis,
        /// A reset of the whole function came before, not a handshake.
        reset: bool,
    },
    /// The last recovery failed. Commands fail with `EIO` until a command starts the next recovery.
    Off {
        /// Time before which no recovery starts.
        not_before: Millis,
    },
    /// An outage: the function is being reset or suspended, so that the driver must not access it.
    Held,
    /// The function is unbound or gone. The queue stays in this state.
    Down,
}

impl Life {
    /// Returns whether a recovery is under way, which threads advance by steps.
    pub(crate) fn is_moving(self) -> bool {
        matches!(
            self,
            Self::Suspect | Self::Quieting { .. } | Self::Resetting { .. } | Self::Enabling { .. }
        )
    }
}

/// Contents of the registers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seen {
    /// The device uses the queue.
    pub(crate) ready: bool,
    /// The queue needs a reset handshake before the device can use it.
    pub(crate) fatal: bool,
    /// The registers read as all ones, as they do if the device is gone.
    pub(crate) gone: bool,
    /// A reset of the whole function is under way.
    pub(crate) resetting: bool,
}

/// Next step of a recovery.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Step {
    /// Read the registers again soon.
    Wait,
    /// Enable the queue: the device has let go of rings and buffers.
    Enable {
        /// The reset of the whole function came before.
        reset: bool,
    },
    /// Submit commands: the queue works.
    Run {
        /// The reset of the whole function came before.
        reset: bool,
    },
    /// Give up: the device has not followed.
    Fail,
}

/// Returns the next step of a recovery.
pub(crate) fn next(life: Life, seen: Seen, now: Millis) -> Step {
    let (until, done) = match life {
        Life::Quieting { until } => {
            // An earlier reset that was overdue may still be under way. Until it ends, the device
            // ignores writes to other registers.
            let quiet = !seen.ready && !seen.resetting;
            (until, quiet.then_some(Step::Enable { reset: false }))
        }
        Life::Resetting { until } => {
            let quiet = !seen.resetting;
            (until, quiet.then_some(Step::Enable { reset: true }))
        }
        Life::Enabling { until, reset } => (until, seen.ready.then_some(Step::Run { reset })),
        _ => return Step::Wait,
    };
    if seen.gone {
        return Step::Fail;
    }
    if matches!(life, Life::Enabling { .. }) && seen.fatal {
        return Step::Fail;
    }
    match done {
        Some(done) => done,
        None if now >= until => Step::Fail,
        None => Step::Wait,
    }
}

/// Means to recover the queue.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Attempt {
    /// The reset handshake, which affects the queue only.
    Handshake,
    /// The reset of the whole function, which ends all that the function does for its users.
    Reset,
}

/// Returns whether a recovery that begins in the state `from` tells the users that the device has
/// ended what it did for them. An outage has told them before, and the recovery must not end what a
/// command begins that waits for the end of the outage.
pub(crate) fn ends_uses(attempt: Attempt, from: Life) -> bool {
    attempt == Attempt::Reset && from != Life::Held
}

/// Number of failures in a row after which a recovery resets the whole function.
pub(crate) const RESET_AFTER: u32 = 2;

/// Chooses the means of the next recovery after `failures` failures in a row.
pub(crate) fn attempt(failures: u32) -> Attempt {
    if failures < RESET_AFTER {
        Attempt::Handshake
    } else {
        Attempt::Reset
    }
}

/// Number of aborts in a row, without any completion, after which the driver stops aborting.
const SILENT_ABORTS: u32 = 2;

/// Chooses a recovery instead of an abort if the device has completed nothing during the last
/// `silent` aborts. Such a device confirms aborts but executes no commands. A recovery costs the
/// other functions little, because their commands have not been completed either.
pub(crate) fn instead_of_abort(silent: u32, failures: u32) -> Option<Attempt> {
    (silent >= SILENT_ABORTS).then(|| attempt(failures))
}

/// Pause after the first failure, in milliseconds.
const PAUSE_MS: Millis = 250;
/// Maximum of the pause, in milliseconds.
const MAX_PAUSE_MS: Millis = 16_000;

/// Returns how long commands fail at once after `failures` failures in a row.
pub(crate) fn pause_ms(failures: u32) -> Millis {
    let doublings = failures.saturating_sub(1).min(6);
    PAUSE_MS
        .checked_shl(doublings)
        .unwrap_or(MAX_PAUSE_MS)
        .min(MAX_PAUSE_MS)
}

#[kunit_tests(ext_cmdq_life)]
mod tests {
    use super::*;

    const READY: u32 = 1;
    const FATAL: u32 = 2;

    fn seen(status: u32, resetting: bool) -> Seen {
        Seen {
            ready: status & READY != 0,
            fatal: status & FATAL != 0,
            gone: status == u32::MAX,
            resetting,
        }
    }

    #[test]
    fn moves() {
        let quieting = Life::Quieting { until: 10 };
        let resetting = Life::Resetting { until: 10 };
        let enabling = |reset| Life::Enabling { until: 10, reset };
        for (life, seen, now, want) in [
            (quieting, seen(READY, false), 9, Step::Wait),
            (quieting, seen(READY, false), 10, Step::Fail),
            (quieting, seen(0, false), 10, Step::Enable { reset: false }),
            // FATAL without READY: the handshake clears FATAL.
            (
                quieting,
                seen(FATAL, false),
                1,
                Step::Enable { reset: false },
            ),
            // An earlier reset that was overdue has not ended.
            (quieting, seen(0, true), 9, Step::Wait),
            (quieting, seen(0, true), 10, Step::Fail),
            (quieting, seen(u32::MAX, true), 1, Step::Fail),
            (resetting, seen(0, true), 9, Step::Wait),
            (resetting, seen(READY, true), 10, Step::Fail),
            (resetting, seen(0, false), 10, Step::Enable { reset: true }),
            (resetting, seen(u32::MAX, true), 1, Step::Fail),
            (enabling(true), seen(0, false), 9, Step::Wait),
            (enabling(true), seen(0, false), 10, Step::Fail),
            (
                enabling(true),
                seen(READY, false),
                10,
                Step::Run { reset: true },
            ),
            (
                enabling(false),
                seen(READY, false),
                1,
                Step::Run { reset: false },
            ),
            (enabling(false), seen(FATAL, false), 1, Step::Fail),
            (enabling(false), seen(READY | FATAL, false), 1, Step::Fail),
            (enabling(false), seen(u32::MAX, false), 1, Step::Fail),
            (Life::Up, seen(0, false), 99, Step::Wait),
            (Life::Held, seen(u32::MAX, true), 99, Step::Wait),
            (Life::Down, seen(READY, false), 99, Step::Wait),
        ] {
            assert_eq!(next(life, seen, now), want);
        }
    }

    #[test]
    fn v5_clients_are_told_once_of_each_reset() {
        let off = Life::Off { not_before: 7 };
        for (attempt, from, want) in [
            (Attempt::Handshake, Life::Up, false),
            (Attempt::Handshake, Life::Suspect, false),
            (Attempt::Handshake, off, false),
            (Attempt::Reset, Life::Up, true),
            (Attempt::Reset, off, true),
            (Attempt::Reset, Life::Held, false),
        ] {
            assert_eq!(ends_uses(attempt, from), want);
        }
    }

    #[test]
    fn aborts_that_are_of_no_use_end() {
        assert_eq!(instead_of_abort(0, 5), None);
        assert_eq!(instead_of_abort(1, 5), None);
        assert_eq!(instead_of_abort(2, 0), Some(Attempt::Handshake));
        assert_eq!(instead_of_abort(9, 2), Some(Attempt::Reset));
    }

    #[test]
    fn a_queue_that_is_off_is_tried_again() {
        assert_eq!(attempt(0), Attempt::Handshake);
        assert_eq!(attempt(1), Attempt::Handshake);
        assert_eq!(attempt(2), Attempt::Reset);
        assert_eq!(attempt(u32::MAX), Attempt::Reset);
        let pauses = [1, 2, 3, 6, 7, 8, u32::MAX].map(pause_ms);
        assert_eq!(pauses, [250, 500, 1000, 8000, 16000, 16000, 16000]);
    }
}
