// SPDX-License-Identifier: GPL-2.0

//! Registers of the management function: 32-bit words in BAR 0.

use crate::bindings::dlr;
use kernel::prelude::*;

/// Number of the BAR.
pub(crate) const BAR: u32 = dlr::DLR_MF_BAR;
/// Bytes of the BAR that the contract defines.
pub(crate) const BAR_SIZE: usize = dlr::DLR_MF_BAR_SIZE as usize;

/// [`MAGIC_VALUE`].
pub(crate) const MAGIC: usize = dlr::DLR_REG_MAGIC as usize;
/// Contract version of the device, see [`is_known_version`].
pub(crate) const VERSION: usize = dlr::DLR_REG_VERSION as usize;
/// Number of data functions.
pub(crate) const NUM_FUNCTIONS: usize = dlr::DLR_REG_NUM_FUNCTIONS as usize;
/// Longest time of any command, in milliseconds.
pub(crate) const CMD_TIMEOUT: usize = dlr::DLR_REG_CMD_TIMEOUT as usize;
/// Serial that pairs the functions of one NIC, low half.
pub(crate) const SERIAL_LO: usize = dlr::DLR_REG_SERIAL_LO as usize;
/// High half.
pub(crate) const SERIAL_HI: usize = dlr::DLR_REG_SERIAL_HI as usize;
/// Largest orders of the two rings of the admin queue, see [`MaxOrders`].
pub(crate) const AQ_MAX_ORDER: usize = dlr::DLR_REG_AQ_MAX_ORDER as usize;
/// Bit 0 enables the admin queue; 0 is its reset handshake.
pub(crate) const CONTROL: usize = dlr::DLR_REG_CONTROL as usize;
/// See [`Status`].
pub(crate) const STATUS: usize = dlr::DLR_REG_STATUS as usize;
/// DMA address of the submission ring, low half.
pub(crate) const SQ_BASE_LO: usize = dlr::DLR_REG_SQ_BASE_LO as usize;
/// High half.
pub(crate) const SQ_BASE_HI: usize = dlr::DLR_REG_SQ_BASE_HI as usize;
/// DMA address of the completion ring, low half.
pub(crate) const CQ_BASE_LO: usize = dlr::DLR_REG_CQ_BASE_LO as usize;
/// High half.
pub(crate) const CQ_BASE_HI: usize = dlr::DLR_REG_CQ_BASE_HI as usize;
/// Orders of both rings, see [`aq_attr`].
pub(crate) const AQ_ATTR: usize = dlr::DLR_REG_AQ_ATTR as usize;
/// MSI-X vector of completions.
pub(crate) const AQ_VECTOR: usize = dlr::DLR_REG_AQ_VECTOR as usize;
/// Free-running producer count of the submission ring.
pub(crate) const SQ_TAIL: usize = dlr::DLR_REG_SQ_TAIL as usize;
/// Free-running consumer count of the completion ring.
pub(crate) const CQ_HEAD: usize = dlr::DLR_REG_CQ_HEAD as usize;

/// Value of [`MAGIC`].
pub(crate) const MAGIC_VALUE: u32 = dlr::DLR_MAGIC;
/// Value of [`CONTROL`] that enables the queue.
pub(crate) const CONTROL_ENABLE: u32 = dlr::DLR_CONTROL_ENABLE;

/// Offsets of the registers of data function `function`'s log.
pub(crate) const fn log_posted(function: u32) -> usize {
    function_base(function) + dlr::DLR_REG_LOG_POSTED as usize
}

/// Free-running consumer count of the log ring.
pub(crate) const fn log_head(function: u32) -> usize {
    function_base(function) + dlr::DLR_REG_LOG_HEAD as usize
}

const fn function_base(function: u32) -> usize {
    // OVERFLOW: 2^32 strides of 64 bytes fit in 64 bits.
    dlr::DLR_REG_FN_BASE as usize + function as usize * dlr::DLR_REG_FN_STRIDE as usize
}

static_assert!(log_head(dlr::DLR_MAX_FUNCTIONS - 1) < BAR_SIZE);

/// Whether the driver can talk to a device with this contract version.
pub(crate) const fn is_known_version(version: u32) -> bool {
    version >> 16 == dlr::DLR_CONTRACT_VERSION >> 16
}

/// Value of [`STATUS`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct Status(pub(crate) u32);

impl Status {
    /// The queue is in use by the device.
    pub(crate) const fn is_ready(self) -> bool {
        self.0 & dlr::DLR_MF_STATUS_READY != 0
    }

    /// The queue cannot be used before a reset handshake.
    pub(crate) const fn is_fatal(self) -> bool {
        self.0 & dlr::DLR_MF_STATUS_FATAL != 0
    }

    /// What a device that is gone answers.
    pub(crate) const fn is_gone(self) -> bool {
        self.0 == u32::MAX
    }
}

/// Value of [`AQ_MAX_ORDER`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct MaxOrders(pub(crate) u32);

impl MaxOrders {
    /// The order not above `wish` that both rings can have.
    ///
    /// # Errors
    ///
    /// `EPROTO` when the device's limits are outside the contract's.
    pub(crate) fn choose(self, wish: u32) -> Result<u32> {
        let most = (self.0 & 0xff).min((self.0 >> 8) & 0xff);
        if !(dlr::DLR_AQ_MIN_ORDER..=dlr::DLR_AQ_MAX_ORDER).contains(&most) {
            return Err(EPROTO);
        }
        Ok(wish.clamp(dlr::DLR_AQ_MIN_ORDER, most))
    }
}

/// Value of [`AQ_ATTR`] for two rings of `1 << order` entries.
pub(crate) const fn aq_attr(order: u32) -> u32 {
    (order & 0xff) | (order & 0xff) << 8
}

/// Decodes POSTED: the number of entries ever posted, modulo 2^31.
///
/// # Errors
///
/// `EIO` when the count means nothing: the log is not active, failed, or the device is gone.
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
        assert!(is_known_version(0x0001_0000));
        assert!(is_known_version(0x0001_0007));
        assert!(!is_known_version(0x0002_0000));
        assert!(!is_known_version(u32::MAX));
    }
}
