// SPDX-License-Identifier: GPL-2.0

//! Division of the slots of the admin queue between functions and classes of commands.
//!
//! The slots are divided into four shares that do not lend to each other. So SAVE_READs and state
//! changes never keep a log command waiting, and SAVE_READs keep no state change waiting. LOG_STOP
//! has a share of its own, because it ends a LOG_SYNC that waits for room in its ring ("Counts and
//! interrupts" in `dlr-contract.rst`): it must not wait for the slot of such a LOG_SYNC whose
//! thread was killed.
//!
//! Within a share each function has a quota. If the share has at least one slot for each function,
//! the quotas of all functions fit in it together, and no function keeps another one waiting. A
//! device with fewer slots serves the waiting threads in their order, see [`super::line`].

use crate::proto::admin::{
    Command,
    Row, //
};
use kernel::prelude::*;

/// Class of a command: the share from which it takes its slot.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Class {
    /// SAVE_READ and LOAD_WRITE, of which a session has as many in flight as it has buffers.
    Bulk = 0,
    /// The other commands of the state row.
    State = 1,
    /// The log row without LOG_STOP.
    Log = 2,
    /// LOG_STOP.
    LogStop = 3,
}

const CLASSES: usize = 4;

impl Class {
    /// Returns the class of a command.
    pub(super) fn of(command: &Command) -> Self {
        match command.row() {
            Row::Log if command.is_log_stop() => Self::LogStop,
            Row::Log => Self::Log,
            Row::State if command.is_bulk() => Self::Bulk,
            Row::State => Self::State,
        }
    }
}

/// Number of slots per function that a share of state or log commands gets if there are enough: one
/// for the command at work, and some for commands whose waiters were killed.
const WANTED: usize = 4;

/// Numbers of slots in use, by class and function.
pub(super) struct Admission {
    /// Number of slots of each class.
    shares: [usize; CLASSES],
    /// Number of slots of each class that one function may use.
    quotas: [usize; CLASSES],
    used: [usize; CLASSES],
    by_function: KVec<[usize; CLASSES]>,
}

impl Admission {
    /// Divides `1 << order` slots between `functions` functions.
    ///
    /// # Errors
    ///
    /// `EINVAL` if there are fewer than 4 slots or no function, `ENOMEM`.
    pub(super) fn new(order: u32, functions: usize) -> Result<Self> {
        let slots = 1usize.checked_shl(order).ok_or(EINVAL)?;
        if slots < 4 || functions == 0 {
            return Err(EINVAL);
        }
        let control = WANTED.saturating_mul(functions).min(slots / 4);
        // OVERFLOW: `3 * control` is at most three quarters of `slots`.
        let shares = [slots - 3 * control, control, control, control];
        Ok(Self {
            shares,
            quotas: shares.map(|share| share.checked_div(functions).unwrap_or(0).max(1)),
            used: [0; CLASSES],
            by_function: KVec::from_elem([0; CLASSES], functions, GFP_KERNEL)?,
        })
    }

    /// Returns whether a command of this class may have a slot now.
    pub(super) fn fits(&self, function: u16, class: Class) -> bool {
        let at = class as usize;
        let Some(own) = self.by_function.get(usize::from(function)) else {
            return false;
        };
        let below = |used: &[usize; CLASSES], most: &[usize; CLASSES]| matches!((used.get(at), most.get(at)), (Some(used), Some(most)) if used < most);
        below(own, &self.quotas) && below(&self.used, &self.shares)
    }

    /// Returns whether functions can keep each other waiting for slots of this class.
    pub(super) fn is_scarce(&self, class: Class) -> bool {
        let share = self.shares.get(class as usize).copied().unwrap_or(0);
        share < self.by_function.len()
    }

    /// Counts a slot that a command gets.
    pub(super) fn take(&mut self, function: u16, class: Class) {
        self.change(function, class, |used| used.saturating_add(1));
    }

    /// Counts a slot that a command returns.
    pub(super) fn give(&mut self, function: u16, class: Class) {
        self.change(function, class, |used| used.saturating_sub(1));
    }

    fn change(&mut self, function: u16, class: Class, f: impl Fn(usize) -> usize) {
        let at = class as usize;
        let own = self.by_function.get_mut(usize::from(function));
        if let (Some(own), Some(all)) = (own.and_then(|o| o.get_mut(at)), self.used.get_mut(at)) {
            *own = f(*own);
            *all = f(*all);
        }
    }
}

#[kunit_tests(dlr_mgmt_admission)]
mod tests {
    use super::*;
    use crate::proto::SyncScope;

    const ALL: [Class; CLASSES] = [Class::Bulk, Class::State, Class::Log, Class::LogStop];

    /// Takes slots for `function` until it gets no more, and returns their number.
    fn fill(admission: &mut Admission, function: u16, class: Class) -> usize {
        let mut taken = 0;
        while admission.fits(function, class) {
            admission.take(function, class);
            taken += 1;
        }
        taken
    }

    #[test]
    fn there_is_a_slot_for_whatever_fits() -> Result {
        for order in 2..=10 {
            for functions in [1u16, 2, 3, 13, 64] {
                let mut admission = Admission::new(order, functions.into())?;
                let mut taken = 0;
                for function in 0..functions {
                    for class in ALL {
                        taken += fill(&mut admission, function, class);
                    }
                }
                assert!(taken <= 1 << order);
                for class in ALL {
                    assert!(!admission.fits(functions, class));
                }
            }
        }
        Ok(())
    }

    #[test]
    fn what_others_do_is_not_felt() -> Result {
        for order in 2..=10 {
            for functions in [1u16, 2, 3, 13, 64] {
                for class in ALL {
                    let mut admission = Admission::new(order, functions.into())?;
                    if admission.is_scarce(class) {
                        continue;
                    }
                    for function in 1..functions {
                        for other in ALL {
                            fill(&mut admission, function, other);
                        }
                    }
                    let quota = admission.quotas[class as usize];
                    assert!(quota >= 1);
                    assert_eq!(fill(&mut admission, 0, class), quota);
                }
            }
        }
        Ok(())
    }

    #[test]
    fn reads_keep_no_control_command_waiting() -> Result {
        // The smallest ring and the most functions: SAVE_READs use up their share.
        let mut admission = Admission::new(2, 64)?;
        for function in 0..64 {
            fill(&mut admission, function, Class::Bulk);
        }
        assert!(!admission.fits(63, Class::Bulk));
        assert!(admission.fits(63, Class::State));
        fill(&mut admission, 0, Class::State);
        assert!(!admission.fits(63, Class::State));
        assert!(admission.fits(63, Class::Log));
        Ok(())
    }

    /// With the smallest quota, a SYNC whose thread was killed waits in the device for room in its
    /// ring, and only LOG_STOP ends that wait.
    #[test]
    fn m4_an_orphaned_sync_keeps_no_log_stop_waiting() -> Result {
        for (order, functions) in [(2, 1), (2, 64), (4, 64), (10, 64)] {
            let mut admission = Admission::new(order, functions)?;
            let sync = Command::log_sync(0, SyncScope::All, 1)?;
            fill(&mut admission, 0, Class::of(&sync));
            assert!(!admission.fits(0, Class::of(&sync)));
            assert!(admission.fits(0, Class::of(&Command::log_stop(0))));
        }
        // With enough slots, a LOG_STOP that was never completed does not keep the next one
        // waiting.
        let mut admission = Admission::new(10, 64)?;
        assert_eq!(fill(&mut admission, 0, Class::LogStop), WANTED);
        Ok(())
    }

    #[test]
    fn thirteen_functions_in_stop_copy() -> Result {
        // Thirteen functions with four reads and a command each, and one with 64 buffers (review
        // M3).
        let mut admission = Admission::new(10, 64)?;
        for function in 0..13 {
            assert!(fill(&mut admission, function, Class::Bulk) >= 4);
        }
        let mut admission = Admission::new(6, 2)?;
        assert!(fill(&mut admission, 0, Class::Bulk) < 64);
        assert!(admission.fits(1, Class::Bulk) && admission.fits(1, Class::Log));
        assert!(admission.fits(0, Class::State) && admission.fits(0, Class::Log));
        Ok(())
    }

    #[test]
    fn slots_come_back() -> Result {
        let mut admission = Admission::new(2, 1)?;
        admission.take(0, Class::Log);
        assert!(!admission.fits(0, Class::Log));
        admission.give(0, Class::Log);
        assert!(admission.fits(0, Class::Log));
        Ok(())
    }

    #[test]
    fn strange_sizes_are_refused() {
        assert!(Admission::new(1, 1).is_err());
        assert!(Admission::new(2, 0).is_err());
        assert!(Admission::new(usize::BITS, 1).is_err());
    }
}
