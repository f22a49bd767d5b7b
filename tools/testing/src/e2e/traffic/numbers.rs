// SPDX-License-Identifier: Apache-2.0 OR MIT

//! Numbers of the streams.

/// Stream numbers; each NIC of the guest adds its number.
pub const BACKLOG: u32 = 100;
/// Peer to guest, read at once.
pub const LIVE: u32 = 200;
/// Guest to peer by UDP.
pub const UPLINK: u32 = 300;
/// Guest to peer and back by TCP.
pub const ECHO: u32 = 400;
/// Guest to peer by TCP.
pub const BULK: u32 = 500;

/// What a NIC of the guest adds to them.
pub(in crate::e2e) fn id(nic: usize) -> u32 {
    u32::try_from(nic).unwrap_or(u32::MAX)
}
