// SPDX-License-Identifier: Apache-2.0 OR MIT

//! Events: a waiter sees each change that was announced, and its wait ends.

use crate::stub::completion::Wait;
use crate::stub::sync::atomic::{Atomic, Relaxed};
use loom::{
    sync::{
        atomic::{AtomicUsize, Ordering::AcqRel},
        Arc,
    },
    thread,
};

macro_rules! checks {
    ($module:ident $(, $should_panic:meta)?) => {
        mod $module {
            use super::*;
            use crate::{ext::$module::Event, stub::PinInit};

            fn run(signallers: usize, changes: u32) {
                crate::explore(move || {
                    let event = Arc::new(Event::new().make().unwrap());
                    let states: Arc<Vec<_>> =
                        Arc::new((0..signallers).map(|_| Atomic::new(0u32)).collect());
                    let left = Arc::new(AtomicUsize::new(signallers));
                    for n in 0..signallers {
                        let (event, states, left) = (event.clone(), states.clone(), left.clone());
                        thread::spawn(move || {
                            for change in 1..=changes {
                                states[n].store(change, Relaxed);
                                event.signal();
                            }
                            if left.fetch_sub(1, AcqRel) == 1 {
                                event.wait_by(|done| {
                                    done.end();
                                    Wait::TimedOut
                                });
                            }
                        });
                    }
                    while states.iter().any(|state| state.load(Relaxed) != changes) {
                        assert_eq!(event.wait_killable_timeout(1), Wait::Done, "a change was missed");
                    }
                });
            }

            #[test]
            $(#[$should_panic])?
            fn no_announced_change_is_missed() {
                run(1, 2);
                run(2, 1);
            }
        }
    };
}

checks!(event);
checks!(
    event_signalled_by_load_and_store,
    should_panic(expected = "a change was missed")
);
checks!(
    event_cleared_without_a_barrier,
    should_panic(expected = "a change was missed")
);
