// SPDX-License-Identifier: Apache-2.0 OR MIT

//! Faults that the control socket injects into the admin queue.

use std::collections::HashMap;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

/// What happens to a command instead of its execution, or besides it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FaultAction {
    /// Not executed; completed with this `enum dlr_status`.
    Status(u16),
    /// Executed after so many milliseconds.
    Delay(u64),
    /// Executed, never completed.
    Drop,
    /// Not executed, never completed.
    Ignore,
    /// Executed, completed with another id.
    WrongId,
    /// Not executed, completed with another id.
    StrayId,
    /// Executed; the completion reports this result.
    Result(u32),
    /// LOG_SYNC: executed with another cookie.
    WrongCookie,
    /// Not executed, and from here on the queue is dead: no command, no completion, and no end
    /// of the reset handshake, until a function-level reset.
    Stuck,
}

/// What waits for the commands of one opcode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// What they suffer.
    pub action: FaultAction,
    /// So many go unharmed first.
    pub after: u64,
    /// So many suffer then.
    pub count: u64,
}

/// Faults waiting for their commands.
#[derive(Debug, Default)]
pub(crate) struct Faults(Mutex<HashMap<u16, Fault>>);

impl Faults {
    /// The next commands with `opcode` suffer `fault`, and not what was set before; a count of
    /// 0 only takes that back.
    pub(crate) fn inject(&self, opcode: u16, fault: Fault) {
        let mut faults = self.0.lock();
        if fault.count == 0 {
            faults.remove(&opcode);
        } else {
            faults.insert(opcode, fault);
        }
    }

    /// Takes all back.
    pub(crate) fn clear(&self) {
        self.0.lock().clear();
    }

    /// What a command with `opcode` suffers now.
    pub(crate) fn take(&self, opcode: u16) -> Option<FaultAction> {
        let mut faults = self.0.lock();
        let fault = faults.get_mut(&opcode)?;
        if fault.after > 0 {
            fault.after -= 1;
            return None;
        }
        let action = fault.action;
        fault.count -= 1;
        if fault.count == 0 {
            faults.remove(&opcode);
        }
        Some(action)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(action: FaultAction, after: u64, count: u64) -> Fault {
        Fault {
            action,
            after,
            count,
        }
    }

    #[test]
    fn a_fault_is_used_up() {
        let f = Faults::default();
        f.inject(7, fault(FaultAction::Drop, 0, 2));
        f.inject(8, fault(FaultAction::Delay(5), 0, 1));
        f.inject(8, fault(FaultAction::Delay(5), 0, 0));
        assert_eq!(f.take(8), None);
        assert_eq!(f.take(7), Some(FaultAction::Drop));
        assert_eq!(f.take(7), Some(FaultAction::Drop));
        assert_eq!(f.take(7), None);
    }

    #[test]
    fn a_fault_can_wait_for_its_turn() {
        let f = Faults::default();
        f.inject(7, fault(FaultAction::Ignore, 2, 1));
        let seen: Vec<_> = (0..4).map(|_| f.take(7)).collect();
        assert_eq!(seen, [None, None, Some(FaultAction::Ignore), None]);
        f.inject(7, fault(FaultAction::Ignore, 0, 9));
        f.clear();
        assert_eq!(f.take(7), None);
    }
}
