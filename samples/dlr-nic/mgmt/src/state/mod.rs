// SPDX-License-Identifier: Apache-2.0 OR MIT

//! Device state: what a save session writes and a load session accepts.
//!
//! The stream's framing is the contract's (`struct dlr_section`). This device's own sections:
//!
//! | type | payload |
//! | --- | --- |
//! | `GEOMETRY` | [`Geometry`]; once at the start and again each time the initial image starts anew |
//! | `FLOW` | [`FlowHead`], then `count` blocks of the flow table |
//! | `PERSONALITY` | [`PersonalityHead`], then a part of what `DataFunction::save` returned |

pub(crate) mod flow;
pub(crate) mod load;
mod parser;
pub(crate) mod save;
pub(crate) mod section;
pub(crate) mod streams;
#[cfg(test)]
mod tests;

use dlr_abi::abi;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Version of everything after the stream header: the data function's image has the same number.
pub const STATE_VERSION: u32 = 2;
/// Oldest version that is loaded.
pub const STATE_VERSION_MIN: u32 = 1;
/// No stream is longer: changes are held back for the final part before this is reached.
pub const MAX_STATE_BYTES: u64 = 1 << 30;

/// [`Geometry`].
pub(crate) const SECTION_GEOMETRY: u16 = abi::DLR_SECTION_DEVICE_FIRST as u16;
/// [`FlowHead`] and blocks.
pub(crate) const SECTION_FLOW: u16 = SECTION_GEOMETRY + 1;
/// [`PersonalityHead`] and bytes.
pub(crate) const SECTION_PERSONALITY: u16 = SECTION_GEOMETRY + 2;

/// Size of the flow table of the source.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub(crate) struct Geometry {
    /// Blocks of [`flow::BLOCK`] bytes.
    pub(crate) blocks: u32,
    /// Zero.
    pub(crate) reserved: u32,
}

/// Start of a FLOW section's payload.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub(crate) struct FlowHead {
    /// Number of the first block.
    pub(crate) first: u32,
    /// Blocks that follow.
    pub(crate) count: u32,
}

/// Start of a PERSONALITY section's payload.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub(crate) struct PersonalityHead {
    /// Offset of the bytes that follow in the whole; sections come in order.
    pub(crate) offset: u32,
    /// Length of the whole.
    pub(crate) total: u32,
}

/// Bytes that either device-own payload head takes.
pub(crate) const HEAD: usize = 8;
const _: () = assert!(size_of::<FlowHead>() == HEAD && size_of::<PersonalityHead>() == HEAD);
