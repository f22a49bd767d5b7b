// SPDX-License-Identifier: Apache-2.0 OR MIT

//! The migration states of the uAPI, and the way the kernel takes from one to another.

use std::fmt;

use serde::{Deserialize, Serialize};
use vfio_bindings::bindings::vfio as vb;

/// `enum vfio_device_mig_state`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[repr(u32)]
pub enum State {
    /// Failed; only a reset leaves it.
    Error = 0,
    /// No DMA, no interrupts, no internal change.
    Stop = 1,
    /// Normal operation.
    Running = 2,
    /// Stopped, and its state is read from the data file.
    StopCopy = 3,
    /// Stopped, and state is written to the data file.
    Resuming = 4,
    /// Running, but starts no peer-to-peer DMA.
    RunningP2p = 5,
    /// Running, and state is read in advance.
    PreCopy = 6,
    /// Both of the above.
    PreCopyP2p = 7,
}

impl State {
    /// All of them, by their numbers.
    pub const ALL: [Self; 8] = [
        Self::Error,
        Self::Stop,
        Self::Running,
        Self::StopCopy,
        Self::Resuming,
        Self::RunningP2p,
        Self::PreCopy,
        Self::PreCopyP2p,
    ];

    /// The flags that a device must have for this state to exist.
    fn needs(self) -> u64 {
        let more = match self {
            Self::PreCopy => vb::VFIO_MIGRATION_PRE_COPY,
            Self::PreCopyP2p => vb::VFIO_MIGRATION_PRE_COPY | vb::VFIO_MIGRATION_P2P,
            Self::RunningP2p => vb::VFIO_MIGRATION_P2P,
            _ => 0,
        };
        u64::from(vb::VFIO_MIGRATION_STOP_COPY | more)
    }

    /// First hop towards `to` on a device with all features (`vfio_from_fsm_table`).
    fn hop(self, to: Self) -> Option<Self> {
        use State::*;
        if self == Error || to == Error {
            return None;
        }
        if self == to {
            return Some(to);
        }
        Some(match (self, to) {
            (Stop, StopCopy | Resuming) => to,
            (Stop, _) => RunningP2p,
            (Running, PreCopy) => to,
            (Running, _) => RunningP2p,
            (PreCopy, PreCopyP2p | StopCopy) => PreCopyP2p,
            (PreCopy, _) => Running,
            (PreCopyP2p, PreCopy | StopCopy) => to,
            (PreCopyP2p, _) => RunningP2p,
            (StopCopy, PreCopy | PreCopyP2p) => return None,
            (StopCopy | Resuming, _) => Stop,
            (RunningP2p, PreCopy) => Running,
            (RunningP2p, Running | PreCopyP2p) => to,
            (RunningP2p, _) => Stop,
            (Error, _) => return None,
        })
    }

    /// Does this state have a data file open?
    pub fn has_session(self) -> bool {
        matches!(
            self,
            Self::StopCopy | Self::Resuming | Self::PreCopy | Self::PreCopyP2p
        )
    }
}

impl TryFrom<u32> for State {
    type Error = u32;

    fn try_from(n: u32) -> Result<Self, u32> {
        Self::ALL.get(n as usize).copied().ok_or(n)
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Error => "ERROR",
            Self::Stop => "STOP",
            Self::Running => "RUNNING",
            Self::StopCopy => "STOP_COPY",
            Self::Resuming => "RESUMING",
            Self::RunningP2p => "RUNNING_P2P",
            Self::PreCopy => "PRE_COPY",
            Self::PreCopyP2p => "PRE_COPY_P2P",
        })
    }
}

/// `VFIO_MIGRATION_*` of one device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct MigrationFlags(pub u64);

impl MigrationFlags {
    /// Can be migrated at all.
    pub fn stop_copy(self) -> bool {
        self.0 & u64::from(vb::VFIO_MIGRATION_STOP_COPY) != 0
    }

    /// Has the P2P states: several such devices can be stopped together.
    pub fn p2p(self) -> bool {
        self.0 & u64::from(vb::VFIO_MIGRATION_P2P) != 0
    }

    /// Gives state away while it runs.
    pub fn pre_copy(self) -> bool {
        self.0 & u64::from(vb::VFIO_MIGRATION_PRE_COPY) != 0
    }

    /// Does the device have this state?
    pub fn has(self, state: State) -> bool {
        self.0 & state.needs() == state.needs()
    }

    /// Names as the uAPI has them; unknown bits as a number.
    pub fn names(self) -> Vec<String> {
        let mut names = Vec::new();
        let known = [
            (self.stop_copy(), "STOP_COPY"),
            (self.p2p(), "P2P"),
            (self.pre_copy(), "PRE_COPY"),
        ];
        for (set, name) in known {
            if set {
                names.push(name.to_owned());
            }
        }
        let rest = self.0 & !7;
        if rest != 0 {
            names.push(format!("{rest:#x}"));
        }
        names
    }
}

/// The states that a device with `flags` goes through from `from` to `to`, `to` included,
/// `from` not; `None` where the kernel answers EINVAL.
pub fn path(flags: MigrationFlags, from: State, to: State) -> Option<Vec<State>> {
    if !flags.has(from) || !flags.has(to) {
        return None;
    }
    let mut at = from;
    let mut hops = Vec::new();
    while at != to {
        at = at.hop(to)?;
        if flags.has(at) {
            hops.push(at);
        }
        if hops.len() > State::ALL.len() {
            return None;
        }
    }
    (from != State::Error && to != State::Error).then_some(hops)
}

#[cfg(test)]
mod tests {
    use super::*;
    use State::*;

    const ALL: MigrationFlags = MigrationFlags(7);

    #[test]
    fn paths_are_those_of_the_kernel() {
        // Rows of vfio-contract.md section 2, made by running the kernel's table.
        let rows: &[(State, State, &[State])] = &[
            (Stop, Running, &[RunningP2p, Running]),
            (Stop, PreCopy, &[RunningP2p, Running, PreCopy]),
            (Stop, PreCopyP2p, &[RunningP2p, PreCopyP2p]),
            (Stop, StopCopy, &[StopCopy]),
            (Running, StopCopy, &[RunningP2p, Stop, StopCopy]),
            (Running, Resuming, &[RunningP2p, Stop, Resuming]),
            (Running, PreCopyP2p, &[RunningP2p, PreCopyP2p]),
            (RunningP2p, PreCopy, &[Running, PreCopy]),
            (PreCopy, StopCopy, &[PreCopyP2p, StopCopy]),
            (PreCopy, RunningP2p, &[Running, RunningP2p]),
            (PreCopy, Resuming, &[Running, RunningP2p, Stop, Resuming]),
            (PreCopyP2p, Stop, &[RunningP2p, Stop]),
            (StopCopy, Running, &[Stop, RunningP2p, Running]),
            (StopCopy, Resuming, &[Stop, Resuming]),
            (Resuming, PreCopy, &[Stop, RunningP2p, Running, PreCopy]),
            (Resuming, Running, &[Stop, RunningP2p, Running]),
            (Running, Running, &[]),
        ];
        for (from, to, hops) in rows {
            assert_eq!(
                path(ALL, *from, *to).as_deref(),
                Some(*hops),
                "{from} to {to}"
            );
        }
    }

    #[test]
    fn refused_paths() {
        for (from, to) in [
            (StopCopy, PreCopy),
            (StopCopy, PreCopyP2p),
            (Running, Error),
        ] {
            assert_eq!(path(ALL, from, to), None, "{from} to {to}");
        }
        assert_eq!(path(MigrationFlags(1), Running, PreCopy), None);
        assert_eq!(path(MigrationFlags(1), Running, RunningP2p), None);
        assert_eq!(path(MigrationFlags(0), Running, Stop), None);
    }

    #[test]
    fn states_that_a_device_lacks_are_skipped() {
        let stop_copy_only = MigrationFlags(1);
        assert_eq!(
            path(stop_copy_only, Running, StopCopy),
            Some(vec![Stop, StopCopy])
        );
        let no_p2p = MigrationFlags(5);
        assert_eq!(path(no_p2p, PreCopy, StopCopy), Some(vec![StopCopy]));
        assert_eq!(path(no_p2p, Resuming, Running), Some(vec![Stop, Running]));
    }

    #[test]
    fn numbers_are_those_of_the_uapi() {
        for state in State::ALL {
            assert_eq!(State::try_from(state as u32), Ok(state));
        }
        assert_eq!(State::try_from(8), Err(8));
        assert_eq!(
            State::PreCopyP2p as u32,
            vb::vfio_device_mig_state_VFIO_DEVICE_STATE_PRE_COPY_P2P
        );
    }

    #[test]
    fn flags_have_names() {
        assert_eq!(MigrationFlags(7).names(), ["STOP_COPY", "P2P", "PRE_COPY"]);
        assert_eq!(MigrationFlags(0x11).names(), ["STOP_COPY", "0x10"]);
    }
}
