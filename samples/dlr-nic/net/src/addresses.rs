// SPDX-License-Identifier: Apache-2.0 OR MIT

//! Who has which Ethernet address: the addresses of one NIC stay unique.
//!
//! A function has an *assigned* address, from the command line or from the control socket, and
//! *holds* its permanent one: the address that the guest finds after a reset of its driver. The
//! permanent address belongs to the guest, so it travels in the state image, and a function that
//! has loaded an image holds an address that is assigned to another function. That one may not
//! take it again at its own reset: it takes what is free instead.

use std::sync::Arc;

use parking_lot::Mutex;

use crate::filter::Mac;

/// Why an address cannot be assigned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AssignError {
    /// There is no such function.
    #[error("no such function")]
    Function,
    /// Zero, or a group address.
    #[error("not the address of one station")]
    Address,
    /// Another function of this NIC has it.
    #[error("function {0} has this address")]
    Taken(usize),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Entry {
    assigned: Mac,
    held: Mac,
    /// What the function held until its guest went on running at another function.
    left: Option<Mac>,
    /// The function is STOPPED.
    stopped: bool,
}

/// The addresses of a NIC's functions. Its lock is taken inside the gate of a function and takes
/// no other lock.
#[derive(Debug)]
pub struct Addresses(Mutex<Vec<Entry>>);

impl Addresses {
    /// Function K is assigned and holds the K-th address.
    pub fn new(assigned: impl IntoIterator<Item = Mac>) -> Arc<Self> {
        let entry = |assigned| Entry {
            assigned,
            held: assigned,
            left: None,
            stopped: false,
        };
        Arc::new(Self(Mutex::new(assigned.into_iter().map(entry).collect())))
    }

    /// Assigns `mac` to `function`, which takes it at its next reset.
    ///
    /// # Errors
    ///
    /// The address is not usable, or another function has it; nothing has changed then.
    pub fn assign(&self, function: usize, mac: Mac) -> Result<(), AssignError> {
        let mut entries = self.0.lock();
        if function >= entries.len() {
            return Err(AssignError::Function);
        }
        if mac[0] & 1 != 0 || mac == [0; 6] {
            return Err(AssignError::Address);
        }
        let taken =
            |(k, e): &(usize, &Entry)| *k != function && [e.assigned, e.held].contains(&mac);
        if let Some((k, _)) = entries.iter().enumerate().find(taken) {
            return Err(AssignError::Taken(k));
        }
        if let Some(entry) = entries.get_mut(function) {
            entry.assigned = mac;
        }
        Ok(())
    }

    /// The address that `function` holds, all zeros where there is no such function.
    pub(crate) fn held(&self, function: usize) -> Mac {
        self.0.lock().get(function).map_or([0; 6], |e| e.held)
    }

    /// The address of `function` after its own reset, which it holds from now on. The one that it
    /// held goes back to a function that runs with it again ([`Addresses::resumed`]): of the two
    /// this one is given up.
    pub(crate) fn reset(&self, function: usize) -> Mac {
        let mut entries = self.0.lock();
        let given_up = entries.get(function).map(|e| e.held);
        let mut others = entries
            .iter_mut()
            .enumerate()
            .filter(|(k, _)| *k != function);
        if let Some((_, entry)) = others.find(|(_, e)| !e.stopped && e.left == given_up) {
            entry.held = entry.left.take().unwrap_or(entry.held);
        }
        let mac = free(&entries, function);
        if let Some(entry) = entries.get_mut(function) {
            entry.held = mac;
            entry.left = None;
        }
        mac
    }

    /// `function` has stopped or no longer stands still.
    pub(crate) fn set_stopped(&self, function: usize, stopped: bool) {
        if let Some(entry) = self.0.lock().get_mut(function) {
            entry.stopped = stopped;
        }
    }

    /// An image has brought `mac` to `function`. Returns the others that hold it, too, and
    /// whether they are stopped.
    pub(crate) fn load(&self, function: usize, mac: Mac) -> Vec<(usize, bool)> {
        let mut entries = self.0.lock();
        if let Some(entry) = entries.get_mut(function) {
            entry.held = mac;
            entry.left = None;
        }
        let others = entries.iter().enumerate();
        let others = others.filter(|(k, e)| *k != function && e.held == mac);
        others.map(|(k, e)| (k, e.stopped)).collect()
    }

    /// `function` runs on after a load: the address that it holds is its own now. A `stopped`
    /// function that holds it as well is where the guest has come from, and gives it up, so that
    /// a reset of `function` finds it taken by nobody else. Resuming that one after all takes the
    /// address back ([`Addresses::resumed`]).
    pub(crate) fn arrived(&self, function: usize) {
        arrive(&mut self.0.lock(), function);
    }

    /// Whether `function`, which has loaded an image, holds the same address after a reset.
    pub(crate) fn survives_reset(&self, function: usize) -> bool {
        let mut entries = self.0.lock().clone();
        arrive(&mut entries, function);
        let held = entries.get(function).map(|e| e.held);
        held == Some(free(&entries, function))
    }

    /// `function` goes on without a load. True when its guest was seen running at another function
    /// meanwhile, and runs there no more: `function` takes its address back, and the wire has to
    /// hear where the guest is. While the other one runs, the guest is there: a VMM may let the
    /// source run once more before it closes it. Then the first of the two to be reset gives the
    /// address up.
    pub(crate) fn resumed(&self, function: usize) -> bool {
        let mut entries = self.0.lock();
        let Some(mac) = entries.get(function).and_then(|e| e.left) else {
            return false;
        };
        let others = entries.iter().enumerate().filter(|(k, _)| *k != function);
        if others.clone().any(|(_, e)| e.held == mac && !e.stopped) {
            return false;
        }
        if let Some(entry) = entries.get_mut(function) {
            (entry.held, entry.left) = (mac, None);
        }
        true
    }
}

/// See [`Addresses::arrived`].
fn arrive(entries: &mut [Entry], function: usize) {
    let Some(mac) = entries.get(function).map(|e| e.held) else {
        return;
    };
    for k in 0..entries.len() {
        let source = |e: &Entry| e.held == mac && e.stopped;
        if k == function || !entries.get(k).is_some_and(source) {
            continue;
        }
        let next = free(entries, k);
        if let Some(entry) = entries.get_mut(k) {
            entry.left = Some(entry.held);
            entry.held = next;
        }
    }
}

/// The address that `function` takes at a reset: the assigned one, unless another function holds
/// that, then the one assigned to that function, and so on. Each function holds one address, so
/// the walk ends at an address that is free after as many steps as there are functions; where two
/// functions hold the same address, the first assigned one that is free comes after that.
fn free(entries: &[Entry], function: usize) -> Mac {
    let holder = |mac: Mac| {
        let mut others = entries.iter().enumerate();
        others
            .find(|(k, e)| *k != function && e.held == mac)
            .map(|(_, e)| e.assigned)
    };
    let Some(mut mac) = entries.get(function).map(|e| e.assigned) else {
        return [0; 6];
    };
    for _ in entries {
        match holder(mac) {
            Some(next) => mac = next,
            None => return mac,
        }
    }
    let mut assigned = entries.iter().map(|e| e.assigned);
    assigned.find(|mac| holder(*mac).is_none()).unwrap_or(mac)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn mac(n: u8) -> Mac {
        [2, 0, 0, 0, 0, n]
    }

    fn book(count: u8) -> Arc<Addresses> {
        Addresses::new((0..count).map(mac))
    }

    #[test]
    fn a_guest_keeps_its_address_and_the_function_it_left_takes_the_other() {
        let book = book(2);
        book.set_stopped(0, true);
        assert_eq!(book.load(1, mac(0)), [(0, true)]);
        book.arrived(1);
        // The guest reboots before the source is closed, and after.
        assert_eq!(book.reset(1), mac(0));
        assert_eq!(book.reset(0), mac(1));
        assert_eq!(book.reset(1), mac(0));
        // And back.
        book.set_stopped(0, false);
        book.set_stopped(1, true);
        assert_eq!(book.load(0, mac(0)), [(1, true)]);
        book.arrived(0);
        assert_eq!(book.reset(0), mac(0));
        assert_eq!(book.reset(1), mac(1));
    }

    #[test]
    fn a_migration_that_fails_after_the_commit_changes_nothing() {
        let book = book(2);
        book.set_stopped(0, true);
        book.load(1, mac(0));
        // The target is closed while the source still holds its address.
        assert_eq!(book.reset(1), mac(1));
        assert!(!book.resumed(0));
        assert_eq!(book.reset(0), mac(0));
        // The target had run already: the source takes its address back.
        book.load(1, mac(0));
        book.arrived(1);
        assert_eq!(book.held(0), mac(1));
        // A VMM that only closes the source wakes it as well.
        assert!(!book.resumed(0));
        assert_eq!(book.held(0), mac(1));
        book.set_stopped(1, true);
        assert!(book.resumed(0));
        assert_eq!(book.held(0), mac(0));
        assert_eq!(book.reset(1), mac(1));
    }

    #[test]
    fn a_source_that_runs_on_gives_nothing_up() {
        let book = book(2);
        assert_eq!(book.load(1, mac(0)), [(0, false)]);
        book.arrived(1);
        assert_eq!(book.held(0), mac(0));
    }

    #[test]
    fn guests_go_round() {
        let book = book(3);
        for (from, to, guest) in [(0, 1, 0), (1, 2, 0), (2, 0, 0), (0, 2, 0)] {
            book.set_stopped(from, true);
            book.load(to, mac(guest));
            book.arrived(to);
            book.set_stopped(from, false);
            book.reset(from);
            let mut all: Vec<_> = (0..3).map(|k| book.held(k)).collect();
            all.sort();
            assert_eq!(all, [mac(0), mac(1), mac(2)]);
            assert_eq!(book.reset(to), mac(guest));
        }
    }

    #[test]
    fn an_address_of_another_nic_is_kept_where_it_was_assigned() {
        let book = book(2);
        let foreign = mac(77);
        assert!(book.load(1, foreign).is_empty());
        assert_eq!(book.reset(1), mac(1), "nobody has assigned the other one");
        book.assign(1, foreign).unwrap();
        book.load(1, foreign);
        assert_eq!(book.reset(1), foreign);
    }

    #[test]
    fn only_addresses_that_nobody_has_are_assigned() {
        let book = book(2);
        book.load(1, mac(9));
        assert_eq!(book.assign(0, mac(1)), Err(AssignError::Taken(1)));
        assert_eq!(book.assign(0, mac(9)), Err(AssignError::Taken(1)));
        assert_eq!(book.assign(0, [1; 6]), Err(AssignError::Address));
        assert_eq!(book.assign(0, [0; 6]), Err(AssignError::Address));
        assert_eq!(book.assign(2, mac(5)), Err(AssignError::Function));
        assert_eq!(book.assign(1, mac(9)), Ok(()));
        assert_eq!(book.held(0), mac(0));
    }

    proptest! {
        /// A reset never ends with an address that another function holds.
        #[test]
        fn a_reset_makes_no_second_holder(
            steps in prop::collection::vec((0usize..4, 0usize..4, 0u8..6, 0u8..4), 1..60)
        ) {
            let book = book(4);
            for (function, other, address, step) in steps {
                match step {
                    0 => drop(book.load(function, mac(address))),
                    1 => {
                        book.set_stopped(other, address % 2 == 0);
                        book.arrived(function);
                    }
                    2 => drop(book.resumed(function)),
                    _ => {
                        let mac = book.reset(function);
                        let others = (0..4).filter(|k| *k != function);
                        prop_assert!(others.clone().all(|k| book.held(k) != mac));
                    }
                }
            }
        }
    }
}
