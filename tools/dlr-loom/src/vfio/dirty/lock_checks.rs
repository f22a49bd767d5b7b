// SPDX-License-Identifier: Apache-2.0 OR MIT

//! The log lock: an interrupt's request is followed by a drain that sees what the interrupt saw.

use crate::stub::sync::atomic::{Atomic, Relaxed};
use loom::{sync::Arc, thread};

/// Defines the checks of one copy of the file.
macro_rules! checks {
    ($module:ident $(, $should_panic:meta)?) => {
        mod $module {
            use super::*;
            use crate::{stub::PinInit, vfio::dirty::$module::{Debtor, LogLock}};

            /// Entries that the device has written, and the log that drains them. The lock guards
            /// the number of entries that are drained.
            struct Log {
                lock: LogLock<u32>,
                written: [Atomic<bool>; 2],
            }

            impl Log {
                fn drain(&self) -> u32 {
                    self.written.iter().map(|entry| u32::from(entry.load(Relaxed))).sum()
                }
            }

            impl Debtor<u32> for Log {
                fn pay(&self, drained: &mut u32) {
                    *drained = self.drain();
                }

                fn released(&self, _: &u32) {}
            }

            fn run(interrupts: usize, holders: usize) {
                crate::explore(move || {
                    let lock = LogLock::new(0).make().unwrap();
                    let written = [Atomic::new(false), Atomic::new(false)];
                    let log = Arc::new(Log { lock, written });
                    let mut threads = Vec::new();
                    for n in 0..interrupts {
                        let log = log.clone();
                        threads.push(thread::spawn(move || {
                            log.written[n].store(true, Relaxed);
                            log.lock.owe(&*log);
                        }));
                    }
                    for _ in 0..holders {
                        log.lock.with(&*log, |_| ());
                    }
                    for thread in threads {
                        thread.join().unwrap();
                    }
                    // All threads are done: what is not drained now waits for the next interrupt.
                    log.lock.with(&Nothing, |drained| assert_eq!(*drained as usize, interrupts));
                });
            }

            /// Drains nothing.
            struct Nothing;

            impl Debtor<u32> for Nothing {
                fn pay(&self, _: &mut u32) {}
                fn released(&self, _: &u32) {}
            }

            #[test]
            $(#[$should_panic])?
            fn every_request_is_followed_by_a_drain() {
                run(1, 1);
                run(2, 1);
            }
        }
    };
}

checks!(lock);
checks!(
    lock_no_barrier_after_release,
    should_panic(expected = "assertion")
);
checks!(
    lock_owed_without_a_barrier,
    should_panic(expected = "assertion")
);
checks!(
    lock_cleared_after_the_work,
    should_panic(expected = "assertion")
);
checks!(
    lock_holder_does_not_look,
    should_panic(expected = "assertion")
);
