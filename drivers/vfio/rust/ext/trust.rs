// SPDX-License-Identifier: GPL-2.0

//! Trust in a device after an outage, that is, a reset or a suspend while it stays bound. The
//! device that comes back may be another one, or have other firmware. The driver compares it with
//! the one that it has bound, in the callback that ends the outage or before a later call uses the
//! device, and submits only commands that have a [`Pass`] from that check.

use kernel::prelude::*;

/// Whether the device was checked since its last outage. Part of the state of the queue.
pub(crate) struct Trust {
    /// Number of outages from which the device has come back.
    returns: u32,
    /// Value of `returns` at the last check that has found the same device.
    checked: u32,
}

/// Permission to submit a command.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Pass {
    /// The command is part of the check, of the bind or of a recovery, and changes nothing that
    /// belongs to a user.
    Check,
    /// The device was checked after this many outages.
    Checked(u32),
}

impl Trust {
    /// Creates trust in the device that was bound.
    pub(crate) const fn new() -> Self {
        Self {
            returns: 0,
            checked: 0,
        }
    }

    /// Notes that the device comes back from an outage, before the queue submits commands again.
    pub(crate) fn lose(&mut self) {
        self.returns = self.returns.wrapping_add(1);
    }

    /// Returns a pass. `Err(n)` means that the device was not checked since outage `n`.
    pub(crate) fn pass(&self) -> Result<Pass, u32> {
        if self.returns == self.checked {
            Ok(Pass::Checked(self.checked))
        } else {
            Err(self.returns)
        }
    }

    /// Notes that a check has found the same device. `doubt` is the number of the outage that
    /// [`Self::pass`] has returned before the check.
    pub(crate) fn regain(&mut self, doubt: u32) {
        self.checked = doubt;
    }

    /// Returns whether a command with this pass may be submitted: no outage came after its check.
    pub(crate) fn allows(&self, pass: Pass) -> bool {
        match pass {
            Pass::Check => true,
            Pass::Checked(outages) => outages == self.returns,
        }
    }
}

#[kunit_tests(ext_trust)]
mod tests {
    use super::*;

    #[test]
    fn v4_each_return_is_checked() {
        let mut trust = Trust::new();
        let first = Pass::Checked(0);
        assert_eq!(trust.pass(), Ok(first));
        assert!(trust.allows(first));
        trust.lose();
        // A check that fails changes nothing.
        assert_eq!(trust.pass(), Err(1));
        // The device came back once more during the check.
        trust.lose();
        trust.regain(1);
        assert_eq!(trust.pass(), Err(2));
        assert!(!trust.allows(Pass::Checked(1)));
        trust.regain(2);
        assert_eq!(trust.pass(), Ok(Pass::Checked(2)));
        assert!(!trust.allows(first));
        assert!(trust.allows(Pass::Checked(2)) && trust.allows(Pass::Check));
    }
}
