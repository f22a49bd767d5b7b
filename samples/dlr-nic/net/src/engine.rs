// SPDX-License-Identifier: Apache-2.0 OR MIT

//! The thread that works on what doorbells announce.

use std::{sync::Weak, thread};

use parking_lot::{Condvar, Mutex};

use crate::function::Shared;

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

    /// Waits for work; `false` when there will be none any more.
    fn wait(&self) -> bool {
        let mut state = self.state.lock();
        while !state.rung && !state.closed {
            self.changed.wait(&mut state);
        }
        state.rung = false;
        !state.closed
    }
}

/// Starts the thread; it ends with the function.
pub(crate) fn start(
    name: String,
    bell: std::sync::Arc<Bell>,
    shared: Weak<Shared>,
) -> std::io::Result<()> {
    thread::Builder::new()
        .name(name)
        .spawn(move || {
            while bell.wait() {
                let Some(shared) = shared.upgrade() else {
                    break;
                };
                while shared.work() {}
            }
        })
        .map(|_| ())
}
