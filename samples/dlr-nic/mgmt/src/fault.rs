// SPDX-License-Identifier: Apache-2.0 OR MIT

//! Faults that the control socket injects into the admin queue and into registers.

use std::{
    collections::HashMap,
    sync::atomic::{AtomicU64, Ordering},
};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use crate::pending::RegisterFault;

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
    /// ATTEST: executed with another nonce.
    WrongNonce,
    /// Executed for this function instead, which may not exist.
    Elsewhere(usize),
    /// Completed with success at once, executed after so many milliseconds. For commands without
    /// a buffer.
    Late(u64),
    /// Not executed, and from here on the queue is dead: no command, no completion, no abort, and
    /// no end of the reset handshake, until a reset of the management function.
    Stuck,
}

/// A register bit that reads as one until what it stands for is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RegisterBit {
    /// `DLR_CONTROL_RESET`.
    Reset,
    /// `DLR_FN_ABORT`, of any function.
    Abort,
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

/// Faults waiting for their commands and for writes of their registers.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    /// By function, or for all, and opcode.
    commands: Mutex<HashMap<(Option<usize>, u16), Fault>>,
    bits: Mutex<HashMap<RegisterBit, (RegisterFault, u64)>>,
    suffered: AtomicU64,
}

impl Faults {
    /// The next commands with `opcode`, of `function` or of all, suffer `fault`, and not what was set
    /// before; a count of 0 only takes that back.
    pub(crate) fn inject(&self, function: Option<usize>, opcode: u16, fault: Fault) {
        let mut faults = self.commands.lock();
        if fault.count == 0 {
            faults.remove(&(function, opcode));
        } else {
            faults.insert((function, opcode), fault);
        }
    }

    /// Takes all back.
    pub(crate) fn clear(&self) {
        self.commands.lock().clear();
        self.bits.lock().clear();
    }

    /// The next `count` writes of `bit` suffer `fault`, and not what was set before.
    pub(crate) fn inject_bit(&self, bit: RegisterBit, fault: RegisterFault, count: u64) {
        let mut bits = self.bits.lock();
        if count == 0 {
            bits.remove(&bit);
        } else {
            bits.insert(bit, (fault, count));
        }
    }

    /// Faults that commands and writes of register bits have suffered.
    pub(crate) fn suffered(&self) -> u64 {
        self.suffered.load(Ordering::Relaxed)
    }

    /// What a write of `bit` suffers now.
    pub(crate) fn take_bit(&self, bit: RegisterBit) -> Option<RegisterFault> {
        let mut bits = self.bits.lock();
        let (fault, count) = bits.get_mut(&bit)?;
        let fault = *fault;
        self.suffered.fetch_add(1, Ordering::Relaxed);
        *count -= 1;
        if *count == 0 {
            bits.remove(&bit);
        }
        Some(fault)
    }

    /// What a command of `function` with `opcode` suffers now.
    pub(crate) fn take(&self, function: usize, opcode: u16) -> Option<FaultAction> {
        let mut faults = self.commands.lock();
        let own = (Some(function), opcode);
        let key = if faults.contains_key(&own) {
            own
        } else {
            (None, opcode)
        };
        let fault = faults.get_mut(&key)?;
        if fault.after > 0 {
            fault.after -= 1;
            return None;
        }
        let action = fault.action;
        self.suffered.fetch_add(1, Ordering::Relaxed);
        fault.count -= 1;
        if fault.count == 0 {
            faults.remove(&key);
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
        f.inject(None, 7, fault(FaultAction::Drop, 0, 2));
        f.inject(None, 8, fault(FaultAction::Delay(5), 0, 1));
        f.inject(None, 8, fault(FaultAction::Delay(5), 0, 0));
        assert_eq!(f.take(0, 8), None);
        assert_eq!(f.take(0, 7), Some(FaultAction::Drop));
        assert_eq!(f.take(0, 7), Some(FaultAction::Drop));
        assert_eq!(f.take(0, 7), None);
    }

    #[test]
    fn a_fault_of_one_function_is_no_others() {
        let f = Faults::default();
        f.inject(Some(2), 7, fault(FaultAction::Ignore, 0, 1));
        f.inject(None, 7, fault(FaultAction::Drop, 0, 2));
        let seen: Vec<_> = [1, 2, 2, 1].map(|function| f.take(function, 7)).into();
        let (ignored, dropped) = (Some(FaultAction::Ignore), Some(FaultAction::Drop));
        assert_eq!(seen, [dropped, ignored, dropped, None]);
    }

    #[test]
    fn a_fault_can_wait_for_its_turn() {
        let f = Faults::default();
        f.inject(None, 7, fault(FaultAction::Ignore, 2, 1));
        let seen: Vec<_> = (0..4).map(|_| f.take(0, 7)).collect();
        assert_eq!(seen, [None, None, Some(FaultAction::Ignore), None]);
        f.inject_bit(RegisterBit::Abort, RegisterFault::Ignore, 1);
        assert_eq!(f.take_bit(RegisterBit::Abort), Some(RegisterFault::Ignore));
        assert_eq!((f.take_bit(RegisterBit::Abort), f.suffered()), (None, 2));
        f.inject(None, 7, fault(FaultAction::Ignore, 0, 9));
        f.clear();
        assert_eq!(f.take(0, 7), None);
    }
}
