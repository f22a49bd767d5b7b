// SPDX-License-Identifier: GPL-2.0

//! The registers and the shared memory of a bound management function.

use crate::{
    kext::lease::{
        self,
        Lease,
        Mapped, //
    },
    proto::{
        admin::{
            CQE_WORDS,
            SQE_WORDS, //
        },
        regs,
        status_page, //
    },
};
use kernel::{
    dma::Coherent,
    io::{
        poll::read_poll_timeout,
        Io, //
    },
    prelude::*,
    time::Delta, //
};

/// Access to the hardware while the function is bound.
pub(super) type Hardware = Lease<Shared, { regs::BAR_SIZE }>;
/// Somebody who has access just now.
pub(super) type Guard<'a> = lease::Guard<'a, Shared, { regs::BAR_SIZE }>;
/// Ends access at unbind.
pub(super) type Revoker = lease::Revoker<Shared, { regs::BAR_SIZE }>;
/// Device and BAR alone.
pub(super) type Registers = Mapped<{ regs::BAR_SIZE }>;

/// Slots of the admin queue that we ask for, log2.
const WANTED_ORDER: u32 = 6;
/// Longest command timeout that we believe, in milliseconds.
const MAX_TIMEOUT_MS: u32 = 60_000;
/// How often READY is looked at.
const POLL: Delta = Delta::from_millis(1);

/// Memory that the device and the driver share as long as the function is bound.
pub(super) struct Shared {
    /// Submission ring.
    pub(super) sq: Coherent<[u64]>,
    /// Completion ring.
    pub(super) cq: Coherent<[u64]>,
    /// Status pages of all functions.
    pub(super) pages: Coherent<[u64]>,
    /// What the registers say.
    pub(super) limits: Limits,
}

/// Constants of the device.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Number of data functions.
    pub(super) functions: u32,
    /// Pairs MF and DFs.
    pub(super) serial: u64,
    /// Longest time of a command.
    pub(super) timeout_ms: u32,
    /// Log2 of the slots of both rings of the queue.
    pub(super) order: u32,
}

impl Limits {
    /// Reads and checks them.
    ///
    /// # Errors
    ///
    /// `ENODEV` when this is no management function that we know, `EPROTO` for values outside the contract.
    fn read(hw: &Registers) -> Result<Self> {
        let bar = hw.bar();
        let magic = bar.read32(regs::MAGIC);
        if magic != regs::MAGIC_VALUE {
            dev_err!(hw.device(), "no DLR device, magic {magic:#x}\n");
            return Err(ENODEV);
        }
        let version = bar.read32(regs::VERSION);
        if !regs::is_known_version(version) {
            dev_err!(hw.device(), "unknown contract version {version:#x}\n");
            return Err(ENODEV);
        }
        let limits = Self {
            functions: bar.read32(regs::NUM_FUNCTIONS),
            serial: u64::from(bar.read32(regs::SERIAL_HI)) << 32
                | u64::from(bar.read32(regs::SERIAL_LO)),
            timeout_ms: bar.read32(regs::CMD_TIMEOUT),
            order: regs::MaxOrders(bar.read32(regs::AQ_MAX_ORDER)).choose(WANTED_ORDER)?,
        };
        if !(1..=crate::proto::MAX_FUNCTIONS).contains(&limits.functions)
            || !(1..=MAX_TIMEOUT_MS).contains(&limits.timeout_ms)
        {
            dev_err!(hw.device(), "registers out of bounds: {limits:?}\n");
            return Err(EPROTO);
        }
        Ok(limits)
    }
}

impl Shared {
    /// Looks who the device is and allocates for it.
    pub(super) fn new(hw: &Registers) -> Result<Self> {
        let limits = Limits::read(hw)?;
        let words = |count: usize| Coherent::zeroed_slice(hw.device(), count, GFP_KERNEL);
        Ok(Self {
            sq: words(SQE_WORDS << limits.order)?,
            cq: words(CQE_WORDS << limits.order)?,
            pages: words(status_page::WORDS * limits.functions as usize)?,
            limits,
        })
    }
}

/// Gives the device the rings and waits until it has taken them.
///
/// # Errors
///
/// `EIO` when it refuses them or is gone, `ETIMEDOUT`.
pub(super) fn enable_queue(hw: &Guard<'_>, vector: u32) -> Result {
    let bar = hw.bar();
    let shared = hw.data();
    let (sq, cq) = (shared.sq.dma_address(), shared.cq.dma_address());
    // CAST: The halves of an address.
    bar.write32(sq as u32, regs::SQ_BASE_LO);
    bar.write32((sq >> 32) as u32, regs::SQ_BASE_HI);
    bar.write32(cq as u32, regs::CQ_BASE_LO);
    bar.write32((cq >> 32) as u32, regs::CQ_BASE_HI);
    bar.write32(regs::aq_attr(shared.limits.order), regs::AQ_ATTR);
    bar.write32(vector, regs::AQ_VECTOR);
    // `writel` orders the zeroing of the rings before it.
    bar.write32(regs::CONTROL_ENABLE, regs::CONTROL);
    let status = poll_status(hw, |s| s.is_ready() || s.is_fatal())?;
    if status.is_gone() || status.is_fatal() {
        return Err(EIO);
    }
    Ok(())
}

/// The reset handshake: when it succeeds, the device touches neither the rings nor any command's buffer.
///
/// # Errors
///
/// `EIO` when the device is gone, `ETIMEDOUT`.
pub(super) fn disable_queue(hw: &Guard<'_>) -> Result {
    hw.bar().write32(0, regs::CONTROL);
    let status = poll_status(hw, |s| !s.is_ready())?;
    if status.is_gone() {
        return Err(EIO);
    }
    Ok(())
}

fn poll_status(hw: &Guard<'_>, done: impl Fn(regs::Status) -> bool) -> Result<regs::Status> {
    // The margin is for us, not for the device.
    let timeout = i64::from(hw.data().limits.timeout_ms).saturating_add(super::MARGIN_MS.into());
    read_poll_timeout(
        || Ok(regs::Status(hw.bar().read32(regs::STATUS))),
        |&status| status.is_gone() || done(status),
        POLL,
        Delta::from_millis(timeout),
    )
}
