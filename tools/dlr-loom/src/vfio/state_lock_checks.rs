// SPDX-License-Identifier: Apache-2.0 OR MIT

//! The state lock: after each reset of the function the state is reset, and no two threads reset it
//! at once.

use loom::{sync::Arc, thread};

macro_rules! checks {
    ($module:ident $(, $should_panic:meta)?) => {
        mod $module {
            use super::*;
            use crate::{
                stub::{sync::Mutex, PinInit},
                vfio::{migration::state::State, $module::{ResetState, StateLock}},
            };

            struct Owner;

            impl ResetState<u32> for Owner {
                fn reset_state(&self, data: &mut u32) {
                    *data = 0;
                }
            }

            /// `arcs` threads move the state to STOP while `resets` threads reset the function.
            fn run(arcs: usize, resets: usize) {
                crate::explore(move || {
                    let lock = Arc::new(StateLock::new(0).make().unwrap());
                    // Resets that have ended, and the number that an arc saw while it was on.
                    let resets_at = Arc::new(Mutex::new((0, 0)));
                    let mut threads = Vec::new();
                    for _ in 0..resets {
                        let (lock, at) = (lock.clone(), resets_at.clone());
                        threads.push(thread::spawn(move || {
                            lock.request_reset(&Owner, || at.lock().0 += 1);
                        }));
                    }
                    for _ in 0..arcs {
                        let mut guard = lock.lock(&Owner);
                        guard.set_state(State::Stop);
                        *guard = 1;
                        let mut at = resets_at.lock();
                        at.1 = at.0;
                    }
                    for thread in threads {
                        thread.join().unwrap();
                    }
                    let guard = lock.lock(&Owner);
                    let at = *resets_at.lock();
                    // A reset that ended after the arc has reset the state. One that ended before
                    // or during the arc may have done so or not.
                    if at.0 > at.1 {
                        assert_eq!((guard.state(), *guard), (State::Running, 0));
                    }
                    assert_eq!(guard.state() == State::Running, *guard == 0);
                });
            }

            #[test]
            $(#[$should_panic])?
            fn every_reset_of_the_function_resets_the_state() {
                run(1, 1);
                run(1, 2);
                run(2, 1);
            }
        }
    };
}

checks!(state_lock);
checks!(
    state_lock_released_without_the_spinlock,
    should_panic(expected = "assertion")
);
checks!(
    state_lock_requested_after_the_attempt,
    should_panic(expected = "assertion")
);
checks!(
    state_lock_holder_does_not_look,
    should_panic(expected = "assertion")
);
