// SPDX-License-Identifier: Apache-2.0 OR MIT

//! The users of a cell: none is at the hardware after a revocation or during a pause.

use loom::{cell::UnsafeCell, sync::Arc, thread};

macro_rules! checks {
    ($module:ident $(, $should_panic:meta)?) => {
        mod $module {
            use super::*;
            use crate::{ext::bound_cell::$module::Users, stub::PinInit};

            /// The hardware: loom reports an access beside a change of it.
            struct Bed {
                users: Users,
                hardware: UnsafeCell<u32>,
            }

            impl Bed {
                fn new() -> Arc<Self> {
                    Arc::new(Self {
                        users: Users::new().make().unwrap(),
                        hardware: UnsafeCell::new(0),
                    })
                }

                fn visit(&self) {
                    if self.users.enter() {
                        self.hardware.with(|_| thread::yield_now());
                        self.users.leave();
                    }
                }

                fn pause(&self) {
                    assert!(self.users.enter_in_pause());
                    if self.users.pause() {
                        self.change();
                        self.users.unpause();
                    }
                    self.users.leave();
                }

                fn change(&self) {
                    self.hardware.with_mut(|_| thread::yield_now());
                }
            }

            fn beside(visitors: usize, f: impl Fn(&Bed) + Sync + Send + Copy + 'static) {
                crate::explore(move || {
                    let bed = Bed::new();
                    let threads: Vec<_> = (0..visitors)
                        .map(|_| {
                            let bed = bed.clone();
                            thread::spawn(move || bed.visit())
                        })
                        .collect();
                    f(&bed);
                    for thread in threads {
                        thread.join().unwrap();
                    }
                });
            }

            #[test]
            $(#[$should_panic])?
            fn no_user_is_inside_when_it_must_not_be() {
                for visitors in 1..=2 {
                    beside(visitors, |bed| {
                        bed.users.revoke();
                        bed.change();
                        assert!(!bed.users.enter());
                    });
                }
                beside(1, Bed::pause);
            }
        }
    };
}

checks!(users);
checks!(
    users_counted_by_load_and_store,
    should_panic(expected = "cell")
);
checks!(
    users_revoked_without_waiting,
    should_panic(expected = "cell")
);
checks!(
    users_pause_looked_at_before_the_count,
    should_panic(expected = "cell")
);
checks!(
    users_pause_without_a_barrier,
    should_panic(expected = "cell")
);
