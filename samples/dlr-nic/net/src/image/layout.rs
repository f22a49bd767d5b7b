// SPDX-License-Identifier: Apache-2.0 OR MIT

//! The bytes of an image, and what they have to be.

use dlr_core::LoadError;
use zerocopy::{
    little_endian::{U16, U32, U64},
    FromBytes, Immutable, IntoBytes, KnownLayout,
};

use crate::{
    filter::{Mac, TABLE},
    regs::*,
};

pub(super) const MAGIC: [u8; 4] = *b"DLRN";
/// Version that is written. It is the version of the state stream, too, so that an image that is
/// too new is refused with the first bytes of a stream and not in the downtime: what is offered
/// to drivers, and what a function has to remember of it, changes with this number only.
pub(super) const VERSION: u16 = 2;
/// Oldest version that is loaded: without [`More`].
pub(super) const OLDEST: u16 = 1;

pub(super) const PROMISCUOUS: u8 = 1;
pub(super) const ALL_MULTICAST: u8 = 2;
pub(super) const UNICAST_OVERFLOW: u8 = 4;
pub(super) const MULTICAST_OVERFLOW: u8 = 8;

#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub(super) struct QueueImage {
    pub(super) desc: U64,
    pub(super) avail: U64,
    pub(super) used: U64,
    pub(super) size: U16,
    pub(super) vector: U16,
    pub(super) enabled: U16,
    pub(super) next_avail: U16,
    pub(super) next_used: U16,
    pub(super) signalled: U16,
    pub(super) reserved: U32,
}

#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub(super) struct Image {
    pub(super) base: Base,
    pub(super) more: More,
    /// CRC-32C of everything before.
    pub(super) crc: U32,
}

/// What both versions have.
#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub(super) struct Base {
    pub(super) magic: [u8; 4],
    pub(super) version: U16,
    pub(super) queue_count: U16,
    pub(super) size: U32,
    pub(super) driver_features: U64,
    pub(super) device_feature_select: U32,
    pub(super) driver_feature_select: U32,
    pub(super) status: u8,
    pub(super) generation: u8,
    pub(super) isr: u8,
    pub(super) mode: u8,
    pub(super) config_vector: U16,
    pub(super) queue_select: U16,
    pub(super) mac: Mac,
    pub(super) reserved: [u8; 2],
    pub(super) queues: [QueueImage; QUEUES],
    pub(super) unicast_count: U16,
    pub(super) multicast_count: U16,
    pub(super) unicast: [Mac; TABLE],
    pub(super) multicast: [Mac; TABLE],
}

/// What version 2 has in addition.
#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub(super) struct More {
    /// The address that a reset of the driver brings back.
    pub(super) permanent: Mac,
    /// The link as the driver saw it last.
    pub(super) link: u8,
    pub(super) window_bar: u8,
    pub(super) guest_offloads: U64,
    pub(super) window_offset: U32,
    pub(super) window_length: U32,
    pub(super) reserved: [u8; 8],
}

/// What a driver may have negotiated with a function that writes this version.
pub(super) fn offered(version: u16) -> u64 {
    match version {
        OLDEST => FEATURES & !F_CTRL_GUEST_OFFLOADS,
        _ => FEATURES,
    }
}

/// Splits off the checksum and verifies it.
pub(super) fn checked(bytes: &[u8]) -> Result<&[u8], LoadError> {
    let (body, crc) = bytes.split_last_chunk().ok_or_else(|| corrupt("length"))?;
    check(u32::from_le_bytes(*crc) == crc32c::crc32c(body), "checksum")?;
    Ok(body)
}

pub(super) fn corrupt(why: impl Into<String>) -> LoadError {
    LoadError::Corrupt(why.into())
}

/// Verifies that `ok`, or says what is wrong.
pub(super) fn check(ok: bool, why: &str) -> Result<(), LoadError> {
    if ok {
        Ok(())
    } else {
        Err(corrupt(why))
    }
}

pub(super) fn vector_ok(vector: u16) -> bool {
    vector < VECTORS || vector == NO_VECTOR
}

pub(super) fn table(macs: &[Mac]) -> [Mac; TABLE] {
    let mut table = [[0; 6]; TABLE];
    for (slot, mac) in table.iter_mut().zip(macs) {
        *slot = *mac;
    }
    table
}

/// The addresses in use. Nothing may be behind them, so that what is loaded is saved again.
pub(super) fn untable(count: U16, macs: &[Mac; TABLE]) -> Result<Vec<Mac>, LoadError> {
    let (used, rest) = macs
        .split_at_checked(usize::from(count.get()))
        .ok_or_else(|| corrupt("address table"))?;
    check(
        rest.iter().all(|mac| *mac == [0; 6]),
        "address table behind its end",
    )?;
    Ok(used.to_vec())
}
