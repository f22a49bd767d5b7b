// SPDX-License-Identifier: Apache-2.0 OR MIT

//! What the parts of the reference NIC know of each other.
//!
//! ```text
//!   wire ──WireRx──▶ data function (dlr-net) ──DirtySink──▶ log engine (dlr-mgmt)
//!   wire ◀─WireTx──  data function           ◀─DataFunction─ management function
//!                    both live on PCI functions (dlr-pci): DmaMemory, Interrupt
//! ```
//!
//! No part depends on another part, only on these traits.

#![forbid(unsafe_code)]

mod purpose;
mod sabotage;

pub use purpose::{Purpose, PurposeGuard};
pub use sabotage::{Sabotage, SabotageKind};

use std::{fmt, time::Instant};

/// What a data function does by itself (`enum dlr_fn_state`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum FnState {
    /// Everything.
    Running,
    /// Starts no DMA and raises no interrupt; still takes register accesses.
    RunningP2p,
    /// In addition ignores register writes: its internal state stands still.
    Stopped,
}

/// Why a data function refused a state image. Nothing has been installed then.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LoadError {
    /// Made by another model or an unknown version.
    Incompatible(String),
    /// Contradicts itself or the format.
    Corrupt(String),
    /// The function is not stopped: it was reset while its image was on the way.
    NotStopped,
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Incompatible(why) => write!(f, "incompatible state: {why}"),
            Self::Corrupt(why) => write!(f, "corrupt state: {why}"),
            Self::NotStopped => f.write_str("the function is not stopped"),
        }
    }
}

impl std::error::Error for LoadError {}

/// A DMA access hit an address that the function cannot reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DmaFault {
    /// First byte of the access.
    pub iova: u64,
    /// Length of the access in bytes.
    pub len: u64,
}

impl fmt::Display for DmaFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DMA fault at {:#x}, {} bytes", self.iova, self.len)
    }
}

impl std::error::Error for DmaFault {}

/// Host memory as one function reaches it through its own IOMMU domain.
pub trait DmaMemory: Send + Sync {
    /// Fills `buf` from `iova`.
    ///
    /// # Errors
    ///
    /// Part of the range is not mapped or not readable; `buf` is then unspecified.
    fn read(&self, iova: u64, buf: &mut [u8]) -> Result<(), DmaFault>;

    /// Writes `data` at `iova`, visible to the host when this returns.
    ///
    /// # Errors
    ///
    /// Part of the range is not mapped or not writable; a prefix may have been written.
    fn write(&self, iova: u64, data: &[u8]) -> Result<(), DmaFault>;

    /// Writes eight aligned bytes in one access, after all earlier writes (a log entry).
    ///
    /// # Errors
    ///
    /// As [`DmaMemory::write`]; `iova` not a multiple of eight is a fault too.
    fn write_u64(&self, iova: u64, value: u64) -> Result<(), DmaFault>;
}

/// MSI-X of one function.
pub trait Interrupt: Send + Sync {
    /// Raises `vector`, or marks it pending while it is masked.
    fn trigger(&self, vector: u16);

    /// While this is on nothing is raised, not even by unmasking: it is pending, and raised afterwards.
    fn hold(&self, _on: bool) {}
}

/// Where each DMA write of a data function is announced.
///
/// The function calls this with its DMA gate held (see [`DataFunction::quiesced`]), so a
/// write and its announcement are one step for whoever quiesces the function.
pub trait DirtySink: Send + Sync {
    /// A write to `[iova, iova + len)` is about to start. Only a sabotaged log does
    /// something here: a correct entry may not be posted before its data (rule 1).
    fn before_write(&self, _iova: u64, _len: u64) {}

    /// Asked with the gate held before work begins that may write to `entries` different places:
    /// until when it has to wait, because the log has no room for it (rule 6). The function
    /// opens the gate, does not begin, and asks again then, or when [`DataFunction::room`] is
    /// called.
    fn hold_until(&self, _entries: u32) -> Option<Instant> {
        None
    }

    /// The bytes of `[iova, iova + len)` have been written and are visible.
    fn dirty(&self, iova: u64, len: u64);
}

/// Sees every frame of a data function, for device state that grows with traffic.
pub trait FlowSink: Send + Sync {
    /// An Ethernet frame was sent (`tx`) or received by the guest.
    fn packet(&self, tx: bool, frame: &[u8]);
}

/// A data function as the management function commands it.
pub trait DataFunction: Send + Sync {
    /// The state it is in.
    fn state(&self) -> FnState;

    /// Goes down to `to`; returns when every DMA write that `to` forbids is visible and
    /// has been announced to the [`DirtySink`] (rule 7).
    fn suspend(&self, to: FnState);

    /// Goes up to `to`. Work that arrived meanwhile (a queue notification) is not forgotten.
    fn resume(&self, to: FnState);

    /// Runs `f` while no DMA write of the function is in flight: each is either not begun,
    /// or visible and announced.
    fn quiesced(&self, f: &mut dyn FnMut());

    /// What was held back ([`DirtySink::hold_until`]) may begin.
    fn room(&self) {}

    /// The personality's state (registers, queues), for a stopped function.
    fn save(&self) -> Vec<u8>;

    /// Verifies `state` as a whole, then installs it in the stopped function.
    ///
    /// # Errors
    ///
    /// Nothing is installed then.
    fn load(&self, state: &[u8]) -> Result<(), LoadError>;

    /// Back to power-on state, keeping [`FnState`] as it is. Part of FLR and of an aborted load.
    fn reset(&self);

    /// One JSON object of counters, for the control socket.
    fn stats_json(&self) -> String;
}

/// Hears what happens to a data function on the PCI side.
pub trait FunctionEvents: Send + Sync {
    /// The function was reset (FLR, device reset). It is [`FnState::Running`] again; save and
    /// load sessions are gone, the log goes on (rule 8).
    fn function_reset(&self);

    /// The guest reset or renegotiated the personality by its own means (virtio status 0).
    /// Sessions go on; an initial image being saved starts anew.
    fn reconfigured(&self) {}
}

/// The words of a data function's DVSEC that prove to the driver whose function it is
/// (`DLR_DVSEC_NONCE_LO/HI`).
pub trait AttestWords: Send + Sync {
    /// Shows `nonce` from now on, until the function is reset; 0 takes it away.
    fn set_nonce(&self, nonce: u64);
}

/// Result of offering a frame to a data function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// In the guest's memory.
    Accepted,
    /// Not now: the guest has no buffer. The wire may offer it again or count it as lost.
    NoBuffer,
    /// The function is not running, has no driver or no link, or filtered the frame.
    Dropped,
}

/// Receiving side of a data function.
pub trait WireRx: Send + Sync {
    /// Offers an Ethernet frame without FCS, at most 65 550 bytes. Its checksums are right.
    fn deliver(&self, frame: &[u8]) -> Delivery;
}

/// Sending side: a wire back end.
pub trait WireTx: Send + Sync {
    /// Takes an Ethernet frame that the guest sent; checksums are filled in. Never blocks long.
    fn send(&self, frame: &[u8]);

    /// A load has brought the address `mac` to this function. Nothing is sent; a wire that knows
    /// the address at another place says so in its log.
    fn claim(&self, _mac: [u8; 6]) {}
}
