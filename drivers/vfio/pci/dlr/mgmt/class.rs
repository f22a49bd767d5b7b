// SPDX-License-Identifier: GPL-2.0

//! Classes of commands, each of which has a share of the slots of the admin queue of its own
//! ([`Shares`](crate::ext::cmdq::shares::Shares)).
//!
//! So SAVE_READs and state changes never keep a log command waiting, and SAVE_READs keep no state
//! change waiting. LOG_STOP has a share of its own, because it ends a LOG_SYNC that waits for room
//! in its ring ("Counts and interrupts" in `dlr-contract.rst`): it must not wait for the slot of
//! such a LOG_SYNC whose thread was killed.

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

/// Number of classes.
pub(super) const CLASSES: usize = Class::LogStop as usize + 1;

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

impl From<Class> for usize {
    fn from(class: Class) -> Self {
        class as Self
    }
}

#[kunit_tests(dlr_mgmt_class)]
mod tests {
    use super::*;
    use crate::{
        ext::cmdq::shares::Shares,
        proto::SyncScope, //
    };

    /// With the smallest quota, a SYNC whose thread was killed waits in the device for room in its
    /// ring, and only LOG_STOP ends that wait.
    #[test]
    fn m4_an_orphaned_sync_keeps_no_log_stop_waiting() -> Result {
        let sync = Class::of(&Command::log_sync(0, SyncScope::All, 1)?);
        let stop = Class::of(&Command::log_stop(0));
        assert_eq!((sync, stop), (Class::Log, Class::LogStop));
        let mut shares = Shares::new(2, 1, CLASSES)?;
        shares.take(0, sync);
        assert!(!shares.fits(0, sync) && shares.fits(0, stop));
        Ok(())
    }
}
