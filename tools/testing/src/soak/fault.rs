// SPDX-License-Identifier: Apache-2.0 OR MIT

//! What the NIC is made to do wrong, and what that may lead to. No fault makes the NIC lie: none
//! excuses a lost page.

use serde_json::{json, Value};

use super::random::Random;

/// A fault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Fault {
    /// The commands with this opcode, when `after` of them have passed, suffer this.
    Command {
        opcode: &'static str,
        action: Action,
        after: u32,
        count: u32,
    },
    /// An abort of a function by a register takes so long, or does not end.
    Abort(Option<u32>),
    /// An entry without a write appears in the log of this function, while it is on.
    Entry { function: u8, entry: &'static str },
    /// So many events "more to read" of this function are not raised.
    LostEvents { function: u8, count: u32 },
    /// An update of the status page of this function never ends.
    TornPage { function: u8 },
    /// The flow table of this function changes: no fault, but work for pre-copy.
    Packet { function: u8 },
}

/// What a command suffers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    /// Executed so many milliseconds later, within the deadline.
    Delay(u32),
    /// Refused.
    Status(u16),
    /// One of those that the NIC knows by a word.
    Word(&'static str),
}

/// How long the NIC has for a command, in milliseconds.
pub(super) const DEADLINE: u32 = 1500;

const OPCODES: &[&str] = &[
    "suspend",
    "resume",
    "save-begin",
    "save-read",
    "save-end",
    "load-begin",
    "load-write",
    "load-commit",
    "load-abort",
    "log-start",
    "log-add",
    "log-sync",
    "log-stop",
    "status-page",
];

/// `DLR_STATUS_*` but success.
const STATUSES: &[u16] = &[5, 6, 7, 8, 9, 4];

/// After this the queue is dead until the management function is reset.
pub(super) const STUCK: &str = "stuck";

impl Fault {
    /// One that lasts no longer than until it is mended.
    pub(super) fn draw(random: &mut Random) -> Self {
        let function = random.below(2) as u8;
        match random.below(20) {
            0..=12 => Self::command(random),
            13..=15 => Self::Entry {
                function,
                entry: random.one(
                    "lost",
                    &["flood", "garbage", "outside", "marker", "missing"],
                ),
            },
            16 => Self::LostEvents { function, count: 3 },
            17 => Self::TornPage { function },
            18 => Self::Packet { function },
            _ => Self::Abort(random.one(None, &[Some(20), Some(200)])),
        }
    }

    fn command(random: &mut Random) -> Self {
        let opcode = random.one("log-sync", OPCODES);
        let action = match random.below(10) {
            0..=3 => Action::Delay(1 + random.below(DEADLINE / 10)),
            4..=6 => Action::Status(random.one(9, STATUSES)),
            7..=8 => Action::Word(random.one("drop", &["ignore", "wrong-id", "stray-id"])),
            _ if opcode == "log-sync" => Action::Word("wrong-cookie"),
            _ => Action::Delay(1),
        };
        Self::Command {
            opcode,
            action,
            after: random.one(0, &[0, 1, 3, 9]),
            count: random.one(1, &[1, 2]),
        }
    }

    /// The queue dies.
    pub(super) fn stuck(random: &mut Random) -> Self {
        Self::Command {
            opcode: random.one("suspend", &["save-read", "load-write", "log-sync"]),
            action: Action::Word(STUCK),
            after: 0,
            count: 1,
        }
    }

    /// May a call fail because of it?
    pub(super) fn may_refuse(&self) -> bool {
        match self {
            Self::Command { action, .. } => !matches!(action, Action::Delay(_)),
            // All of the log counts as dirty, and it goes on.
            Self::Entry { entry, .. } => *entry != "lost",
            Self::TornPage { .. } => true,
            // Nothing is aborted unless a command is overdue.
            Self::Abort(_) | Self::LostEvents { .. } | Self::Packet { .. } => false,
        }
    }

    /// Can it be set before its time comes? If not, a log has to be on.
    pub(super) fn waits(&self) -> bool {
        !matches!(self, Self::Entry { .. } | Self::Packet { .. })
    }

    /// What the report counts it as.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Command { action, .. } => match action {
                Action::Delay(_) => "slow command",
                Action::Status(_) => "refused command",
                Action::Word(STUCK) => "dead queue",
                Action::Word("drop" | "ignore") => "silent command",
                Action::Word(_) => "wrong completion",
            },
            Self::Entry { .. } => "log entry without a write",
            Self::Abort(_) => "slow abort",
            Self::LostEvents { .. } => "lost events",
            Self::TornPage { .. } => "torn status page",
            Self::Packet { .. } => "packet",
        }
    }

    /// The request to the control socket.
    pub(super) fn request(&self) -> Value {
        match self {
            Self::Command {
                opcode,
                action,
                after,
                count,
            } => {
                let action = match action {
                    Action::Delay(ms) => json!({ "delay": ms }),
                    Action::Status(status) => json!({ "status": status }),
                    Action::Word(word) => json!(word),
                };
                json!({"cmd": "fault", "opcode": opcode, "action": action, "after": after,
                       "count": count})
            }
            Self::Abort(delay) => {
                let action = delay.map_or(json!("stuck"), |ms| json!({ "delay": ms }));
                json!({"cmd": "register-fault", "register": "abort", "action": action})
            }
            Self::Entry { function, entry } => {
                json!({"cmd": "log-entry", "function": function, "entry": entry})
            }
            Self::LostEvents { function, count } => {
                json!({"cmd": "lose-event", "function": function, "count": count})
            }
            Self::TornPage { function } => json!({"cmd": "tear-page", "function": function}),
            Self::Packet { function } => json!({"cmd": "packet", "function": function}),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn many() -> Vec<Fault> {
        let mut random = Random::new(3, 0);
        (0..2000).map(|_| Fault::draw(&mut random)).collect()
    }

    #[test]
    fn every_kind_and_every_opcode_comes() {
        let faults = many();
        let kinds: BTreeSet<_> = faults.iter().map(Fault::kind).collect();
        assert_eq!(kinds.len(), 9, "{kinds:?}");
        assert!(!kinds.contains("dead queue"), "it is not mended");
        let opcodes: BTreeSet<_> = faults
            .iter()
            .filter_map(|fault| match fault {
                Fault::Command { opcode, .. } => Some(*opcode),
                _ => None,
            })
            .collect();
        assert_eq!(opcodes.len(), OPCODES.len());
    }

    /// A NIC that lies loses pages rightly: nothing could be told from that.
    #[test]
    fn no_fault_is_a_lie() {
        for fault in many() {
            if let Fault::Command { action, .. } = &fault {
                assert_ne!(*action, Action::Status(0));
                assert!(!matches!(
                    action,
                    Action::Word("late" | "result" | "elsewhere")
                ));
                if let Action::Delay(ms) = action {
                    assert!(*ms < DEADLINE / 2 && !fault.may_refuse());
                }
            }
        }
    }

    #[test]
    fn requests_are_those_of_the_control_socket() {
        let fault = Fault::Command {
            opcode: "log-sync",
            action: Action::Status(9),
            after: 1,
            count: 2,
        };
        let request = json!({"cmd": "fault", "opcode": "log-sync", "action": {"status": 9},
                             "after": 1, "count": 2});
        assert_eq!(fault.request(), request);
        assert!(fault.may_refuse() && fault.waits());
        let request = json!({"cmd": "register-fault", "register": "abort", "action": "stuck"});
        assert_eq!(Fault::Abort(None).request(), request);
    }
}
