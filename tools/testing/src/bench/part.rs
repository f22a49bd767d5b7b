// SPDX-License-Identifier: Apache-2.0 OR MIT

//! The parts of the benchmark.

/// A part of the benchmark.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// The driver's own code beside C.
    Native,
    /// Calls that find nothing to do.
    Idle,
    /// Device state as a stream.
    Stream,
    /// What logging costs the reference NIC.
    Nic,
    /// How long a guest stands still whose log overflows.
    Overflow,
    /// How long a guest stands still, beside one with a NIC of QEMU.
    Downtime,
    /// How much longer it stands still for each NIC.
    PerNic,
}

impl Part {
    /// All of them.
    pub const ALL: &[Self] = &[
        Self::Native,
        Self::Idle,
        Self::Stream,
        Self::Nic,
        Self::Overflow,
        Self::Downtime,
        Self::PerNic,
    ];
}
