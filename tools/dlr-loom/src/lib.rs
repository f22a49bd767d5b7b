// SPDX-License-Identifier: Apache-2.0 OR MIT

//! The locks of the layer (`drivers/vfio/rust`), compiled for user space and run by [loom] in
//! all interleavings of two or three threads with at most [`PREEMPTIONS`] preemptions, with each
//! value that a load may return in its model of C11. The model does not let a store come before an
//! earlier load.
//!
//! | file | what is shown |
//! | --- | --- |
//! | `vfio/dirty/lock.rs` | every request for a drain is followed by one |
//! | `vfio/state_lock.rs` | every reset of the function resets the state, under the lock |
//! | `ext/bound_cell/users.rs` | no user is at the hardware after a revocation or during a pause |
//! | `ext/event.rs` | no change that was announced is missed |
//!
//! The files are the driver's, not copies of their ideas: `build.rs` takes their code as it is.
//! Each check also runs on copies of its file with one bug, and has to fail there. What the files
//! use of the kernel crate is in `stub/`.
//!
//! Not covered: code under a lock that is no lock itself (the slots of commands, the log), and
//! everything that needs a device.
//!
//! [loom]: https://docs.rs/loom

#![cfg(test)]
// The layer's files name the kernel crate, and are linted where they belong.
extern crate self as kernel;

#[macro_use]
mod stub;
pub(crate) use stub::*;

/// Runs `f` in every interleaving with at most [`PREEMPTIONS`] switches between threads that could
/// go on.
pub(crate) fn explore(f: impl Fn() + Sync + Send + 'static) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound.get_or_insert(PREEMPTIONS);
    model.check(f);
}

/// Bugs of this kind need few; `LOOM_MAX_PREEMPTIONS` sets another limit.
const PREEMPTIONS: usize = 2;

/// Takes in a file of the layer from where `build.rs` has put it.
macro_rules! layer {
    ($name:ident) => {
        #[allow(dead_code, unused, unreachable_pub, unsafe_code, clippy::all)]
        pub(crate) mod $name {
            include!(concat!(env!("OUT_DIR"), "/", stringify!($name), ".rs"));
        }
    };
}

pub(crate) mod ext {
    pub(crate) use crate::stub::{completion, killable};
    layer!(event);
    layer!(event_signalled_by_load_and_store);
    layer!(event_cleared_without_a_barrier);

    pub(crate) mod bound_cell {
        layer!(users);
        layer!(users_counted_by_load_and_store);
        layer!(users_revoked_without_waiting);
        layer!(users_pause_looked_at_before_the_count);
        layer!(users_pause_without_a_barrier);
        mod checks;
    }

    mod event_checks;
}

pub(crate) mod vfio {
    pub(crate) mod migration {
        layer!(state);
    }

    layer!(state_lock);
    layer!(state_lock_released_without_the_spinlock);
    layer!(state_lock_requested_after_the_attempt);
    layer!(state_lock_holder_does_not_look);
    mod state_lock_checks;

    pub(crate) mod dirty {
        layer!(lock);
        layer!(lock_no_barrier_after_release);
        layer!(lock_owed_without_a_barrier);
        layer!(lock_cleared_after_the_work);
        layer!(lock_holder_does_not_look);
        mod lock_checks;
    }
}
