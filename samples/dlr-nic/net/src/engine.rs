// SPDX-License-Identifier: Apache-2.0 OR MIT

//! The thread that works on what doorbells announce.

use std::{sync::Weak, thread, time::Instant};

use parking_lot::{Condvar, Mutex};

/// What the thread works on.
pub(crate) trait Work: Send + Sync + 'static {
    /// Does a piece of the work; `true` when there may be more.
    fn work(&self) -> bool;
    /// When to look again though the bell has not rung.
    fn due(&self) -> Option<Instant>;
}

/// Wakes the engine.
#[derive(Debug, Default)]
pub(crate) struct Bell {
    state: Mutex<Ring>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Ring {
    rung: bool,
    closed: bool,
}

impl Bell {
    /// There is work.
    pub(crate) fn ring(&self) {
        let mut state = self.state.lock();
        state.rung = true;
        self.changed.notify_one();
    }

    /// The function is gone.
    pub(crate) fn close(&self) {
        self.state.lock().closed = true;
        self.changed.notify_one();
    }

    /// Waits for work, but no longer than `until`; `false` when there will be none any more.
    fn wait(&self, until: Option<Instant>) -> bool {
        let mut state = self.state.lock();
        while !state.rung && !state.closed {
            match until {
                None => self.changed.wait(&mut state),
                Some(until) => {
                    if self.changed.wait_until(&mut state, until).timed_out() {
                        break;
                    }
                }
            }
        }
        state.rung = false;
        !state.closed
    }
}

/// Starts the thread; it ends with the function.
pub(crate) fn start(
    name: String,
    bell: std::sync::Arc<Bell>,
    shared: Weak<impl Work>,
) -> std::io::Result<()> {
    thread::Builder::new()
        .name(name)
        .spawn(move || {
            let mut due = None;
            while bell.wait(due) {
                let Some(shared) = shared.upgrade() else {
                    break;
                };
                while shared.work() {}
                due = shared.due();
            }
        })
        .map(|_| ())
}
