// SPDX-License-Identifier: GPL-2.0

//! Registers of the management function: 32-bit words in BAR 0 ("Registers" in `dlr-contract.rst`).
//!
//! C header: [`include/uapi/linux/dlr.h`](srctree/include/uapi/linux/dlr.h)

use crate::proto::dlr;
use kernel::prelude::*;

/// Number of the BAR that holds the registers.
pub(crate) const BAR: u32 = dlr::DLR_MF_BAR;
/// Size in bytes of the part of the BAR that the contract defines.
pub(crate) const BAR_SIZE: usize = dlr::DLR_MF_BAR_SIZE as usize;

/// MAGIC register: reads as [`MAGIC_VALUE`].
pub(crate) const MAGIC: usize = dlr::DLR_REG_MAGIC as usize;
/// VERSION register: contract version of the device, see [`is_known_version`].
pub(crate) const VERSION: usize = dlr::DLR_REG_VERSION as usize;
/// NUM_FUNCTIONS register: number of data functions.
pub(crate) const NUM_FUNCTIONS: usize = dlr::DLR_REG_NUM_FUNCTIONS as usize;
/// CMD_TIMEOUT register: longest time of any command, in milliseconds.
pub(crate) const CMD_TIMEOUT: usize = dlr::DLR_REG_CMD_TIMEOUT as usize;
/// SERIAL_LO register: low half of the serial that pairs the functions of one NIC.
pub(crate) const SERIAL_LO: usize = dlr::DLR_REG_SERIAL_LO as usize;
/// SERIAL_HI register: high half of the serial.
pub(crate) const SERIAL_HI: usize = dlr::DLR_REG_SERIAL_HI as usize;
/// AQ_MAX_ORDER register: largest orders of the two rings of the admin queue, see [`MaxOrders`].
pub(crate) const AQ_MAX_ORDER: usize = dlr::DLR_REG_AQ_MAX_ORDER as usize;
/// CONTROL register: [`CONTROL_ENABLE`], [`CONTROL_RESET`], or 0 for the reset handshake.
pub(crate) const CONTROL: usize = dlr::DLR_REG_CONTROL as usize;
/// STATUS register, see [`Status`].
pub(crate) const STATUS: usize = dlr::DLR_REG_STATUS as usize;
/// SQ_BASE_LO register: low half of the DMA address of the submission ring.
pub(crate) const SQ_BASE_LO: usize = dlr::DLR_REG_SQ_BASE_LO as usize;
/// SQ_BASE_HI register: high half of that address.
pub(crate) const SQ_BASE_HI: usize = dlr::DLR_REG_SQ_BASE_HI as usize;
/// CQ_BASE_LO register: low half of the DMA address of the completion ring.
pub(crate) const CQ_BASE_LO: usize = dlr::DLR_REG_CQ_BASE_LO as usize;
/// CQ_BASE_HI register: high half of that address.
pub(crate) const CQ_BASE_HI: usize = dlr::DLR_REG_CQ_BASE_HI as usize;
/// AQ_ATTR register: orders of both rings, see [`aq_attr`].
pub(crate) const AQ_ATTR: usize = dlr::DLR_REG_AQ_ATTR as usize;
/// AQ_VECTOR register: MSI-X vector of completions.
pub(crate) const AQ_VECTOR: usize = dlr::DLR_REG_AQ_VECTOR as usize;
/// SQ_TAIL register: free-running producer count of the submission ring.
pub(crate) const SQ_TAIL: usize = dlr::DLR_REG_SQ_TAIL as usize;
/// CQ_HEAD register: free-running consumer count of the completion ring.
pub(crate) const CQ_HEAD: usize = dlr::DLR_REG_CQ_HEAD as usize;

/// Value of [`MAGIC`].
pub(crate) const MAGIC_VALUE: u32 = dlr::DLR_MAGIC;
/// Value of [`CONTROL`] that enables the admin queue.
pub(crate) const CONTROL_ENABLE: u32 = dlr::DLR_CONTROL_ENABLE;
/// Value of [`CONTROL`] that resets the whole management function. The bit reads as 1 until the
/// reset is done.
pub(crate) const CONTROL_RESET: u32 = dlr::DLR_CONTROL_RESET;
/// Value of the [`fn_abort`] register that drops the function's commands. It reads as 1 until they
/// are dropped.
pub(crate) const FN_ABORT: u32 = dlr::DLR_FN_ABORT;

/// Returns the offset of a function's LOG_POSTED register, see [`posted`].
pub(crate) const fn log_posted(function: u32) -> usize {
    function_base(function) + dlr::DLR_REG_LOG_POSTED as usize
}

/// Returns the offset of a function's LOG_HEAD register: the consumer count of its log ring.
pub(crate) const fn log_head(function: u32) -> usize {
    function_base(function) + dlr::DLR_REG_LOG_HEAD as usize
}

/// Returns the offset of a function's abort register, see [`FN_ABORT`].
pub(crate) const fn fn_abort(function: u32) -> usize {
    function_base(function) + dlr::DLR_REG_FN_ABORT as usize
}

const fn function_base(function: u32) -> usize {
    // OVERFLOW: 2^32 strides of 64 bytes fit in 64 bits.
    dlr::DLR_REG_FN_BASE as usize + function as usize * dlr::DLR_REG_FN_STRIDE as usize
}

static_assert!(fn_abort(dlr::DLR_MAX_FUNCTIONS - 1) < BAR_SIZE);

/// Returns whether the driver supports this contract version: it must know the major, and accepts
/// any minor.
pub(crate) const fn is_known_version(version: u32) -> bool {
    version >> 16 == dlr::DLR_CONTRACT_VERSION >> 16
}

/// Value of [`STATUS`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct Status(pub(crate) u32);

impl Status {
    /// Returns whether the device uses the queue.
    pub(crate) const fn is_ready(self) -> bool {
        self.0 & dlr::DLR_MF_STATUS_READY != 0
    }

    /// Returns whether the queue needs a reset handshake before the device can use it.
    pub(crate) const fn is_fatal(self) -> bool {
        self.0 & dlr::DLR_MF_STATUS_FATAL != 0
    }

    /// Returns whether the register reads as all ones, as it does if the device is gone.
    pub(crate) const fn is_gone(self) -> bool {
        self.0 == u32::MAX
    }
}

/// Value of [`AQ_MAX_ORDER`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct MaxOrders(pub(crate) u32);

impl MaxOrders {
    /// Chooses one order for both rings: `wish`, limited to what the contract and the device allow.
    ///
    /// # Errors
    ///
    /// `EPROTO` if the device's maximum is outside the limits of the contract.
    pub(crate) fn choose(self, wish: u32) -> Result<u32> {
        let most = (self.0 & 0xff).min((self.0 >> 8) & 0xff);
        if !(dlr::DLR_AQ_MIN_ORDER..=dlr::DLR_AQ_MAX_ORDER).contains(&most) {
            return Err(EPROTO);
        }
        Ok(wish.clamp(dlr::DLR_AQ_MIN_ORDER, most))
    }
}

/// Returns the value of [`AQ_ATTR`] for two rings of `1 << order` entries.
pub(crate) const fn aq_attr(order: u32) -> u32 {
    (order & 0xff) | (order & 0xff) << 8
}

/// Decodes LOG_POSTED: returns the number of entries posted since LOG_START, modulo 2^31.
///
/// # Errors
///
/// `EIO` if the register has no count: the log is not active or has failed, or the device is gone.
pub(crate) fn posted(value: u32) -> Result<u32> {
    if value & dlr::DLR_LOG_POSTED_ERROR != 0 {
        return Err(EIO);
    }
    Ok(value & dlr::DLR_LOG_POSTED_COUNT_MASK)
}

#[kunit_tests(dlr_proto_regs)]
mod tests {
    use super::*;

    #[test]
    fn function_registers() {
        assert_eq!(log_posted(0), 0x1000);
        assert_eq!(log_head(0), 0x1004);
        assert_eq!(fn_abort(1), 0x1050);
        assert_eq!(log_posted(63), 0x1fc0);
    }

    #[test]
    fn orders() -> Result {
        assert_eq!(MaxOrders(0x0a08).choose(6)?, 6);
        assert_eq!(MaxOrders(0x0408).choose(6)?, 4);
        assert_eq!(MaxOrders(0x0a0a).choose(0)?, 2);
        assert!(MaxOrders(0x0a00).choose(6).is_err());
        assert!(MaxOrders(u32::MAX).choose(6).is_err());
        assert_eq!(aq_attr(6), 0x0606);
        Ok(())
    }

    #[test]
    fn posted_errors() -> Result {
        assert_eq!(posted(0x7fff_fff0)?, 0x7fff_fff0);
        assert!(posted(0x8000_0001).is_err());
        assert!(posted(u32::MAX).is_err());
        Ok(())
    }

    #[test]
    fn versions() {
        assert!(is_known_version(0x0002_0000));
        assert!(is_known_version(0x0002_0007));
        assert!(!is_known_version(0x0001_0000));
        assert!(!is_known_version(0x0003_0000));
        assert!(!is_known_version(u32::MAX));
    }
}
