// SPDX-License-Identifier: Apache-2.0 OR MIT

//! `struct completion`.

use loom::sync::{Condvar, Mutex};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Wait {
    Done,
    TimedOut,
}

/// Counts as `struct completion` does.
pub(crate) struct Completion {
    state: Mutex<State>,
    more: Condvar,
}

struct State {
    done: u32,
    /// Whether the check has ended all threads that complete this: a wait with a timeout then
    /// ends with [`Wait::TimedOut`].
    over: bool,
}

impl Completion {
    pub(crate) fn new() -> Self {
        Self {
            state: Mutex::new(State {
                done: 0,
                over: false,
            }),
            more: Condvar::new(),
        }
    }

    pub(crate) fn complete(&self) {
        let mut state = self.state.lock().unwrap();
        state.done = state.done.saturating_add(1);
        self.more.notify_one();
    }

    pub(crate) fn complete_all(&self) {
        self.state.lock().unwrap().done = u32::MAX;
        self.more.notify_all();
    }

    /// Lets waits with a timeout end.
    pub(crate) fn end(&self) {
        self.state.lock().unwrap().over = true;
        self.more.notify_all();
    }

    pub(crate) fn wait(&self) {
        let mut state = self.state.lock().unwrap();
        while state.done == 0 {
            state = self.more.wait(state).unwrap();
        }
        state.take();
    }

    pub(crate) fn wait_killable_timeout(&self, _: u64) -> Wait {
        let mut state = self.state.lock().unwrap();
        while state.done == 0 {
            if state.over {
                return Wait::TimedOut;
            }
            state = self.more.wait(state).unwrap();
        }
        state.take();
        Wait::Done
    }
}

impl State {
    fn take(&mut self) {
        if self.done != u32::MAX {
            self.done -= 1;
        }
    }
}
