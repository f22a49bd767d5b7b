// SPDX-License-Identifier: GPL-2.0

//! Registers and shared memory of a bound management function.

use crate::{
    ext::{
        bound_cell::{
            self,
            BoundCell, //
        },
        cmdq::device,
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
    device::{
        Bound,
        Device, //
    },
    dma::Coherent,
    io::{
        poll::read_poll_timeout,
        Io, //
    },
    prelude::*,
    time::Delta, //
};

/// Access to the hardware while the function is bound.
pub(super) type Hardware = BoundCell<Shared, { regs::BAR_SIZE }>;
/// An access to the hardware, while it exists.
pub(super) type Guard<'a> = bound_cell::Guard<'a, Shared, { regs::BAR_SIZE }>;
/// The hardware itself.
pub(super) type Mapped = bound_cell::Hardware<Shared, { regs::BAR_SIZE }>;
/// The device and its BAR alone.
pub(super) type Registers = bound_cell::Mapped<{ regs::BAR_SIZE }>;

/// Order of the rings of the admin queue that the driver asks for.
const WANTED_ORDER: u32 = 10;
/// Longest command timeout that the driver accepts, in milliseconds.
const MAX_TIMEOUT_MS: u32 = 60_000;
/// Interval between two reads of a register that is polled.
const POLL: Delta = Delta::from_millis(1);

/// Memory that the device and the driver share while the function is bound.
pub(crate) struct Shared {
    /// Submission ring.
    pub(super) sq: Coherent<[u64]>,
    /// Completion ring.
    pub(super) cq: Coherent<[u64]>,
    /// Status pages of all functions.
    pub(super) pages: Coherent<[u64]>,
    /// Constants from the registers.
    pub(super) limits: Limits,
}

/// Constants of the device, from its registers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Limits {
    /// Number of data functions.
    pub(super) functions: u32,
    /// Serial that pairs the functions of one NIC.
    pub(super) serial: u64,
    /// Constants of the admin queue.
    pub(super) queue: device::Limits,
}

impl Limits {
    /// Reads and checks the constants.
    ///
    /// # Errors
    ///
    /// `ENODEV` if the device is no management function of a contract version that the driver
    /// knows, `EPROTO` if a value is outside the contract.
    pub(super) fn read(hw: &Registers) -> Result<Self> {
        let bar = hw.bar();
        let magic = bar.read(regs::MAGIC).into_raw();
        if magic != regs::MAGIC_VALUE {
            dev_err!(hw.device(), "not a DLR device, magic {magic:#x}\n");
            return Err(ENODEV);
        }
        let version = bar.read(regs::VERSION);
        if !version.is_known() {
            let version = version.into_raw();
            dev_err!(hw.device(), "unknown contract version {version:#x}\n");
            return Err(ENODEV);
        }
        let limits = Self {
            functions: bar.read(regs::NUM_FUNCTIONS).into_raw(),
            serial: u64::from(bar.read(regs::SERIAL_HI).into_raw()) << 32
                | u64::from(bar.read(regs::SERIAL_LO).into_raw()),
            queue: device::Limits {
                timeout_ms: bar.read(regs::CMD_TIMEOUT).into_raw(),
                order: bar.read(regs::AQ_MAX_ORDER).choose(WANTED_ORDER)?,
            },
        };
        if !(1..=crate::proto::MAX_FUNCTIONS).contains(&limits.functions)
            || !(1..=MAX_TIMEOUT_MS).contains(&limits.queue.timeout_ms)
        {
            dev_err!(hw.device(), "registers out of bounds: {limits:?}\n");
            return Err(EPROTO);
        }
        Ok(limits)
    }
}

impl Shared {
    /// Reads the constants of the device and allocates the memory for them.
    pub(super) fn new(hw: &Registers, dev: &Device<Bound>) -> Result<Self> {
        let limits = Limits::read(hw)?;
        let words = |count: usize| Coherent::zeroed_slice(dev, count, GFP_KERNEL);
        Ok(Self {
            sq: words(SQE_WORDS << limits.queue.order)?,
            cq: words(CQE_WORDS << limits.queue.order)?,
            pages: words(status_page::WORDS * limits.functions as usize)?,
            limits,
        })
    }
}

/// Gives the rings to the device. The device has taken them when STATUS reads as READY.
pub(super) fn begin_enable(hw: &Mapped, vector: u32) {
    let bar = hw.bar();
    let shared = hw.data();
    let (sq, cq) = (shared.sq.dma_address(), shared.cq.dma_address());
    // CAST: Each register takes a half of the address.
    bar.write_reg(regs::SQ_BASE_LO::from_raw(sq as u32));
    bar.write_reg(regs::SQ_BASE_HI::from_raw((sq >> 32) as u32));
    bar.write_reg(regs::CQ_BASE_LO::from_raw(cq as u32));
    bar.write_reg(regs::CQ_BASE_HI::from_raw((cq >> 32) as u32));
    bar.write_reg(regs::AQ_ATTR::of(shared.limits.queue.order));
    bar.write_reg(regs::AQ_VECTOR::from_raw(vector));
    // `writel` orders the zeroing of the rings before this write.
    bar.write_reg(regs::CONTROL::zeroed().with_enable(true));
}

/// Begins the reset of the whole function. When RESET is clear, the device accesses no memory and
/// raises no vector; all logs, sessions, status pages and nonces have ended.
pub(super) fn begin_reset(hw: &Registers) {
    hw.bar().write_reg(regs::CONTROL::zeroed().with_reset(true));
}

/// Resets the management function by `DLR_CONTROL_RESET`, and waits for `ms` milliseconds at most.
/// The data functions stay as they are.
///
/// After success the device accesses no memory and raises no vector; admin queue, logs, sessions,
/// status pages and nonces have ended.
///
/// # Errors
///
/// `EIO` if the device is gone, `ETIMEDOUT` if the reset has not ended in time.
pub(super) fn reset(hw: &Registers, ms: u32) -> Result {
    begin_reset(hw);
    let bar = hw.bar();
    let control = read_poll_timeout(
        || Ok(bar.read(regs::CONTROL)),
        // A device that is gone reads as all ones: do not wait for it.
        |control| control.is_gone() || !control.reset(),
        POLL,
        Delta::from_millis(ms.into()),
    )?;
    if control.is_gone() {
        return Err(EIO);
    }
    Ok(())
}

/// Returns whether the device answers. The queue need not be ready, because its own recovery needs
/// no reset of the bus.
pub(super) fn answers(hw: &Registers) -> bool {
    hw.bar().read(regs::MAGIC).into_raw() == regs::MAGIC_VALUE
}
