// SPDX-License-Identifier: Apache-2.0 OR MIT

//! The note that an interrupt's thread leaves for the holder of the log lock
//! (`drivers/vfio/rust/vfio/dirty/lock.rs`), with every interleaving of its threads and of their
//! store buffers.
//!
//! A thread that notes stores an entry, stores the note, and tries the lock. A thread that releases
//! the lock looks for a note and tries the lock again. Nothing is lost when in the end each entry
//! is consumed. Stores wait in a buffer of their thread until any later moment; barriers and atomic
//! operations wait for the buffer. (That is the memory model of x86. The barrier between the look
//! at the note and the try at the lock is for processors that are weaker, and not checked here.)

use std::collections::HashSet;

/// What is left out, to see that the check notices.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Omission {
    /// Nothing: as the driver does it.
    Nothing,
    /// The barrier between the release of the lock and the look at the note.
    BarrierAfterRelease,
    /// The barrier between the note and the try at the lock.
    BarrierAfterNote,
    /// The look comes before the release.
    LookAfterRelease,
    /// The note is taken away after the work instead of before.
    ClearBeforeWork,
}

/// What a thread does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    /// Takes the lock, as a report does, and releases it.
    Holder,
    /// Notes, as the interrupt's thread does.
    Noter,
}

const THREADS: usize = 3;

/// Where a thread is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum At {
    Lock,
    Hold,
    Post,
    Note,
    Fence,
    Look,
    Try,
    Clear,
    Work,
    Late,
    Release,
    End,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Store {
    Entry(usize),
    Owed(bool),
    Unlock,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct State {
    at: [At; THREADS],
    /// Stores that are not visible to others yet, in order.
    buffers: [Vec<Store>; THREADS],
    owed: bool,
    held: bool,
    entries: [bool; THREADS],
    consumed: [bool; THREADS],
}

impl State {
    fn apply(&mut self, store: Store) {
        match store {
            Store::Entry(thread) => self.entries[thread] = true,
            Store::Owed(owed) => self.owed = owed,
            Store::Unlock => self.held = false,
        }
    }

    /// What the thread sees: its own store, if one waits.
    fn sees_owed(&self, thread: usize) -> bool {
        let own = self.buffers[thread].iter().rev().find_map(|s| match s {
            Store::Owed(owed) => Some(*owed),
            _ => None,
        });
        own.unwrap_or(self.owed)
    }

    /// The state after the next step of a thread; `None` when it cannot take one now.
    fn step(&self, thread: usize, omission: Omission) -> Option<Self> {
        let mut next = self.clone();
        let flushed = self.buffers[thread].is_empty();
        let mut put = |store| next.buffers[thread].push(store);
        let after_release = if omission == Omission::BarrierAfterRelease {
            At::Look
        } else {
            At::Fence
        };
        let at = match self.at[thread] {
            At::Lock if !self.held && flushed => {
                next.held = true;
                At::Hold
            }
            At::Hold if omission == Omission::LookAfterRelease => {
                let owed = self.sees_owed(thread);
                if owed {
                    At::Clear
                } else {
                    At::Late
                }
            }
            At::Hold => At::Release,
            At::Late => {
                put(Store::Unlock);
                At::End
            }
            At::Post => {
                put(Store::Entry(thread));
                At::Note
            }
            At::Note if omission == Omission::BarrierAfterNote => {
                put(Store::Owed(true));
                At::Look
            }
            At::Note if flushed => {
                next.owed = true;
                At::Fence
            }
            At::Fence if flushed => At::Look,
            At::Look if self.sees_owed(thread) => At::Try,
            At::Look => At::End,
            At::Try if self.held => At::End,
            At::Try if flushed => {
                next.held = true;
                if omission == Omission::ClearBeforeWork {
                    At::Work
                } else {
                    At::Clear
                }
            }
            At::Clear if flushed => {
                next.owed = false;
                if omission == Omission::ClearBeforeWork {
                    At::Release
                } else {
                    At::Work
                }
            }
            At::Work => {
                for (consumed, entry) in next.consumed.iter_mut().zip(self.entries) {
                    *consumed |= entry;
                }
                if omission == Omission::ClearBeforeWork {
                    At::Clear
                } else {
                    At::Release
                }
            }
            At::Release => {
                put(Store::Unlock);
                after_release
            }
            _ => return None,
        };
        next.at[thread] = at;
        Some(next)
    }
}

/// Whether an entry can be left in the ring with no thread about to look, and how many states there
/// are.
#[must_use]
pub fn can_lose(roles: [Role; THREADS], omission: Omission) -> (bool, usize) {
    let start = State {
        at: roles.map(|role| match role {
            Role::Holder => At::Lock,
            Role::Noter => At::Post,
        }),
        buffers: [const { Vec::new() }; THREADS],
        owed: false,
        held: false,
        entries: [false; THREADS],
        consumed: [false; THREADS],
    };
    let mut seen = HashSet::from([start.clone()]);
    let mut todo = vec![start];
    let mut lost = false;
    while let Some(state) = todo.pop() {
        let mut stuck = true;
        for thread in 0..THREADS {
            let mut drained = state.clone();
            let visible = (!drained.buffers[thread].is_empty()).then(|| {
                let store = drained.buffers[thread].remove(0);
                drained.apply(store);
                drained
            });
            for next in [state.step(thread, omission), visible]
                .into_iter()
                .flatten()
            {
                stuck = false;
                if seen.insert(next.clone()) {
                    todo.push(next);
                }
            }
        }
        lost |= stuck && state.entries != state.consumed;
    }
    (lost, seen.len())
}

#[cfg(test)]
mod tests {
    use super::{
        can_lose, Omission,
        Role::{Holder, Noter},
    };

    const CASTS: [[super::Role; 3]; 3] = [
        [Holder, Noter, Noter],
        [Holder, Holder, Noter],
        [Noter, Noter, Noter],
    ];

    #[test]
    fn h2_no_note_is_lost() {
        for cast in CASTS {
            let (lost, states) = can_lose(cast, Omission::Nothing);
            assert!(!lost && states > 100, "{cast:?}: {states} states");
        }
    }

    #[test]
    fn h2_each_omission_loses_a_note() {
        for omission in [
            Omission::BarrierAfterRelease,
            Omission::BarrierAfterNote,
            Omission::LookAfterRelease,
            Omission::ClearBeforeWork,
        ] {
            assert!(
                CASTS.iter().any(|c| can_lose(*c, omission).0),
                "{omission:?}"
            );
        }
    }
}
