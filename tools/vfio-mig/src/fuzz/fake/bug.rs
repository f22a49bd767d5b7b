// SPDX-License-Identifier: Apache-2.0 OR MIT

//! The bugs of the simulated device.

/// One way to be wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::fuzz) enum Bug {
    /// PROBE says yes to each way of a feature.
    ProbeAlways,
    /// An `argsz` that is too short is taken.
    ShortStruct,
    /// Overlapping ranges are taken.
    Overlap,
    /// A START whose answer cannot be written leaves the log on.
    LostStartStays,
    /// A SET whose answer cannot be written does not move the device.
    LostSetStays,
    /// poll() never tells of a session that has ended.
    DeafPoll,
    /// poll() says in pre-copy that there is something when there is not.
    RashPoll,
    /// Any ioctl of a data file succeeds.
    AnyIoctl,
    /// RESUMING is left with a part of a stream.
    Truncated,
    /// A stream in pieces is refused.
    PiecesRefused,
    /// A byte of the state is lost when it is loaded.
    LosesByte,
    /// Files of a device that was closed go on.
    OutliveClose,
    /// REPORT of a range that was not started sets a bit beyond it.
    StrayBit,
    /// A byte of the stream is missing when the device stops.
    Torn,
    /// A read that may not wait says that the stream is at its end.
    NonblockEnd,
}

impl Bug {
    pub(in crate::fuzz) const ALL: [Self; 15] = [
        Self::ProbeAlways,
        Self::ShortStruct,
        Self::Overlap,
        Self::LostStartStays,
        Self::LostSetStays,
        Self::DeafPoll,
        Self::RashPoll,
        Self::AnyIoctl,
        Self::Truncated,
        Self::PiecesRefused,
        Self::LosesByte,
        Self::OutliveClose,
        Self::StrayBit,
        Self::Torn,
        Self::NonblockEnd,
    ];
}
