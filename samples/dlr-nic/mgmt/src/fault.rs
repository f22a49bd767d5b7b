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
    /// Executed, completed with another id.
    WrongId,
}

/// Faults waiting for their commands.
#[derive(Debug, Default)]
pub(crate) struct Faults(Mutex<HashMap<u16, (FaultAction, u64)>>);

impl Faults {
    /// The next `count` commands with `opcode` suffer `action`; 0 takes it back.
    pub(crate) fn inject(&self, opcode: u16, action: FaultAction, count: u64) {
        let mut faults = self.0.lock();
        if count == 0 {
            faults.remove(&opcode);
        } else {
            faults.insert(opcode, (action, count));
        }
    }

    /// What a command with `opcode` suffers now.
    pub(crate) fn take(&self, opcode: u16) -> Option<FaultAction> {
        let mut faults = self.0.lock();
        let (action, count) = faults.get_mut(&opcode)?;
        let action = *action;
        *count -= 1;
        if *count == 0 {
            faults.remove(&opcode);
        }
        Some(action)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_is_used_up() {
        let f = Faults::default();
        f.inject(7, FaultAction::Drop, 2);
        f.inject(8, FaultAction::Delay(5), 1);
        f.inject(8, FaultAction::Delay(5), 0);
        assert_eq!(f.take(8), None);
        assert_eq!(f.take(7), Some(FaultAction::Drop));
        assert_eq!(f.take(7), Some(FaultAction::Drop));
        assert_eq!(f.take(7), None);
    }
}
