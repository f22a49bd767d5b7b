// SPDX-License-Identifier: GPL-2.0

//! Division of the slots of a command queue between functions and classes of commands.
//!
//! The slots are divided into one share for each class of commands, and the shares do not lend to
//! each other: commands of one class never keep those of another waiting. The vendor says which
//! classes there are. Class 0 is for commands of which a user has many in flight, and gets what the
//! other shares leave.
//!
//! Within a share each function has a quota. If the share has at least one slot for each function,
//! the quotas of all functions fit in it together, and no function keeps another one waiting. A
//! device with fewer slots serves the waiting threads in their order, which
//! [`line`](super::line) keeps.

use kernel::prelude::*;

/// Number of slots per function that a share gets if there are enough, unless it is that of class
/// 0: one for the command at work, and some for commands whose waiters were killed.
const WANTED: usize = 4;

/// Numbers of slots in use, by class and function.
pub(crate) struct Shares {
    classes: KVec<Share>,
    /// Numbers of slots that each function uses, class by class.
    by_function: KVec<usize>,
    functions: usize,
}

/// The share of one class.
#[derive(Clone, Copy)]
struct Share {
    /// Number of slots of the class.
    slots: usize,
    /// Number of slots of the class that one function may use.
    quota: usize,
    used: usize,
}

impl Shares {
    /// Divides `1 << order` slots between `functions` functions and `classes` classes.
    ///
    /// # Errors
    ///
    /// `EINVAL` if there are fewer slots than classes, or no function. `ENOMEM` if the allocation
    /// fails.
    pub(crate) fn new(order: u32, functions: usize, classes: usize) -> Result<Self> {
        let slots = 1usize.checked_shl(order).ok_or(EINVAL)?;
        let most = slots.checked_div(classes).unwrap_or(0);
        if most == 0 || functions == 0 {
            return Err(EINVAL);
        }
        let control = WANTED.saturating_mul(functions).min(most);
        let share = |slots: usize| Share {
            slots,
            quota: slots.checked_div(functions).unwrap_or(0).max(1),
            used: 0,
        };
        let mut shares = KVec::from_elem(share(control), classes, GFP_KERNEL)?;
        if let Some((bulk, others)) = shares.split_first_mut() {
            // OVERFLOW: `classes` times `control` is at most `slots`.
            *bulk = share(slots - others.len() * control);
        }
        let count = functions.checked_mul(classes).ok_or(EINVAL)?;
        Ok(Self {
            classes: shares,
            by_function: KVec::from_elem(0, count, GFP_KERNEL)?,
            functions,
        })
    }

    /// Returns the place of a function and a class in `by_function`, if both exist.
    fn place(&self, function: u16, class: usize) -> Option<usize> {
        let first = usize::from(function).checked_mul(self.classes.len())?;
        (class < self.classes.len()).then(|| first.checked_add(class))?
    }

    /// Returns whether a command of this class may have a slot now.
    pub(crate) fn fits(&self, function: u16, class: impl Into<usize>) -> bool {
        let class = class.into();
        let own = self.place(function, class);
        let own = own.and_then(|at| self.by_function.get(at));
        match (own, self.classes.get(class)) {
            (Some(&own), Some(share)) => own < share.quota && share.used < share.slots,
            _ => false,
        }
    }

    /// Returns whether functions can keep each other waiting for slots of this class.
    pub(crate) fn is_scarce(&self, class: impl Into<usize>) -> bool {
        let share = self.classes.get(class.into());
        share.map_or(0, |share| share.slots) < self.functions
    }

    /// Counts a slot that a command gets.
    pub(crate) fn take(&mut self, function: u16, class: impl Into<usize>) {
        self.change(function, class.into(), |used| used.saturating_add(1));
    }

    /// Counts a slot that a command returns.
    pub(crate) fn give(&mut self, function: u16, class: impl Into<usize>) {
        self.change(function, class.into(), |used| used.saturating_sub(1));
    }

    /// Changes the numbers of slots that a function and a class use.
    fn change(&mut self, function: u16, at: usize, f: impl Fn(usize) -> usize) {
        let own = self.place(function, at);
        let own = own.and_then(|at| self.by_function.get_mut(at));
        if let (Some(own), Some(share)) = (own, self.classes.get_mut(at)) {
            *own = f(*own);
            share.used = f(share.used);
        }
    }
}

#[kunit_tests(ext_cmdq_shares)]
mod tests {
    use super::*;

    const BULK: usize = 0;
    /// Class 0 and three others.
    const ALL: [usize; 4] = [BULK, 1, 2, 3];

    fn four(order: u32, functions: usize) -> Result<Shares> {
        Shares::new(order, functions, ALL.len())
    }

    /// Takes slots for `function` until it gets no more, and returns their number.
    fn fill(shares: &mut Shares, function: u16, class: usize) -> usize {
        let mut taken = 0;
        while shares.fits(function, class) {
            shares.take(function, class);
            taken += 1;
        }
        taken
    }

    #[test]
    fn there_is_a_slot_for_whatever_fits() -> Result {
        for order in 2..=10 {
            for functions in [1u16, 2, 3, 13, 64] {
                let mut shares = four(order, functions.into())?;
                let mut taken = 0;
                for function in 0..functions {
                    for class in ALL {
                        taken += fill(&mut shares, function, class);
                    }
                }
                assert!(taken <= 1 << order);
                for class in ALL {
                    assert!(!shares.fits(functions, class));
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
                    let mut shares = four(order, functions.into())?;
                    if shares.is_scarce(class) {
                        continue;
                    }
                    for function in 1..functions {
                        for other in ALL {
                            fill(&mut shares, function, other);
                        }
                    }
                    let quota = shares.classes[class].quota;
                    assert!(quota >= 1);
                    assert_eq!(fill(&mut shares, 0, class), quota);
                }
            }
        }
        Ok(())
    }

    #[test]
    fn reads_keep_no_control_command_waiting() -> Result {
        // The smallest ring and the most functions: commands of class 0 use up their share.
        let mut shares = four(2, 64)?;
        for function in 0..64 {
            fill(&mut shares, function, BULK);
        }
        assert!(!shares.fits(63, BULK));
        assert!(shares.fits(63, 1usize));
        fill(&mut shares, 0, 1);
        assert!(!shares.fits(63, 1usize));
        assert!(shares.fits(63, 2usize));
        Ok(())
    }

    /// With the smallest quota, the only slot of a class may be that of a command whose thread was
    /// killed, and which only a command of another class ends.
    #[test]
    fn m4_an_orphan_keeps_no_command_of_another_class_waiting() -> Result {
        for (order, functions) in [(2, 1), (2, 64), (4, 64), (10, 64)] {
            let mut shares = four(order, functions)?;
            fill(&mut shares, 0, 2);
            assert!(!shares.fits(0, 2usize));
            assert!(shares.fits(0, 3usize));
        }
        // With enough slots, a command that was never completed does not keep the next one of its
        // class waiting.
        let mut shares = four(10, 64)?;
        assert_eq!(fill(&mut shares, 0, 3), WANTED);
        Ok(())
    }

    #[test]
    fn thirteen_functions_in_stop_copy() -> Result {
        // Each of thirteen functions has four reads and another command in flight.
        let mut shares = four(10, 64)?;
        for function in 0..13 {
            assert!(fill(&mut shares, function, BULK) >= 4);
        }
        // One of two functions has 64 buffers to read into. It does not get all slots.
        let mut shares = four(6, 2)?;
        assert!(fill(&mut shares, 0, BULK) < 64);
        assert!(shares.fits(1, BULK) && shares.fits(1, 2usize));
        assert!(shares.fits(0, 1usize) && shares.fits(0, 2usize));
        Ok(())
    }

    #[test]
    fn slots_come_back() -> Result {
        let mut shares = four(2, 1)?;
        shares.take(0, 2usize);
        assert!(!shares.fits(0, 2usize));
        shares.give(0, 2usize);
        assert!(shares.fits(0, 2usize));
        Ok(())
    }

    #[test]
    fn strange_sizes_are_refused() {
        assert!(four(1, 1).is_err());
        assert!(four(2, 0).is_err());
        assert!(four(usize::BITS, 1).is_err());
        assert!(Shares::new(2, 1, 0).is_err());
    }
}
