// SPDX-License-Identifier: GPL-2.0

//! Registers of the management function: 32-bit words in BAR 0 ("Registers" in `dlr-contract.rst`).
//!
//! [`register!`] takes literal offsets. They are compared with those of the header below.
//!
//! C header: [`include/uapi/linux/dlr.h`](srctree/include/uapi/linux/dlr.h)

use crate::proto::dlr;
use kernel::{
    io::{
        register,
        register::{
            Array,
            Register,
            RegisterArray,
            RegisterArrayLoc, //
        }, //
    },
    num::Bounded,
    prelude::*, //
};

/// Number of the BAR that holds the registers.
pub(crate) const BAR: u32 = dlr::DLR_MF_BAR;
/// Size in bytes of the part of the BAR that the contract defines.
pub(crate) const BAR_SIZE: usize = dlr::DLR_MF_BAR_SIZE as usize;

/// Number of functions that have registers.
const FUNCTIONS: usize = dlr::DLR_MAX_FUNCTIONS as usize;
/// Distance in bytes from a register of a function to that of the next function.
const STRIDE: usize = dlr::DLR_REG_FN_STRIDE as usize;

// `register!` takes the stride as a literal, which this compares with `dlr.h`.
static_assert!(STRIDE == 0x40);

register! {
    /// Identifies the device.
    pub(crate) MAGIC(u32) @ 0x000 {
        /// [`MAGIC_VALUE`].
        31:0 value;
    }

    /// Contract version of the device.
    pub(crate) VERSION(u32) @ 0x004 {
        /// Versions of another major are not compatible.
        31:16 major;
        /// A driver accepts any minor.
        15:0 minor;
    }

    /// Number of data functions.
    pub(crate) NUM_FUNCTIONS(u32) @ 0x008 {
        /// 1 to `DLR_MAX_FUNCTIONS`.
        31:0 count;
    }

    /// Longest time of any command.
    pub(crate) CMD_TIMEOUT(u32) @ 0x00c {
        /// In milliseconds.
        31:0 ms;
    }

    /// Low half of the serial that pairs the functions of one NIC.
    pub(crate) SERIAL_LO(u32) @ 0x010 {
        /// Bits 31:0 of the serial.
        31:0 half;
    }

    /// High half of the serial.
    pub(crate) SERIAL_HI(u32) @ 0x014 {
        /// Bits 63:32 of the serial.
        31:0 half;
    }

    /// Largest orders of the two rings of the admin queue.
    pub(crate) AQ_MAX_ORDER(u32) @ 0x018 {
        /// Order of the completion ring.
        15:8 cq;
        /// Order of the submission ring.
        7:0 sq;
    }

    /// Enables and resets; 0 begins the reset handshake of the queue.
    pub(crate) CONTROL(u32) @ 0x020 {
        /// Resets the whole management function. It reads as 1 until the reset is done.
        1:1 reset => bool;
        /// Gives the rings to the device.
        0:0 enable => bool;
    }

    /// State of the admin queue.
    pub(crate) STATUS(u32) @ 0x024 {
        /// The queue needs a reset handshake before the device can use it.
        1:1 fatal => bool;
        /// The device uses the queue.
        0:0 ready => bool;
    }

    /// Low half of the DMA address of the submission ring.
    pub(crate) SQ_BASE_LO(u32) @ 0x030 {
        /// Bits 31:0 of the address.
        31:0 half;
    }

    /// High half of the DMA address of the submission ring.
    pub(crate) SQ_BASE_HI(u32) @ 0x034 {
        /// Bits 63:32 of the address.
        31:0 half;
    }

    /// Low half of the DMA address of the completion ring.
    pub(crate) CQ_BASE_LO(u32) @ 0x038 {
        /// Bits 31:0 of the address.
        31:0 half;
    }

    /// High half of the DMA address of the completion ring.
    pub(crate) CQ_BASE_HI(u32) @ 0x03c {
        /// Bits 63:32 of the address.
        31:0 half;
    }

    /// Orders of the rings of the admin queue.
    pub(crate) AQ_ATTR(u32) @ 0x040 {
        /// Order of the completion ring.
        15:8 cq;
        /// Order of the submission ring.
        7:0 sq;
    }

    /// MSI-X vector of completions.
    pub(crate) AQ_VECTOR(u32) @ 0x044 {
        /// Number of the vector.
        31:0 vector;
    }

    /// Free-running producer count of the submission ring.
    pub(crate) SQ_TAIL(u32) @ 0x050 {
        /// Count, modulo 2^32.
        31:0 count;
    }

    /// Free-running consumer count of the completion ring.
    pub(crate) CQ_HEAD(u32) @ 0x054 {
        /// Count, modulo 2^32.
        31:0 count;
    }

    /// Free-running count of the entries that a function has posted to its log ring since
    /// LOG_START.
    pub(crate) LOG_POSTED(u32)[FUNCTIONS, stride = STRIDE] @ 0x1000 {
        /// There is no count: the log is not active or has failed, or the device is gone.
        31:31 error => bool;
        /// Count, modulo 2^31.
        30:0 count;
    }

    /// Free-running consumer count of a function's log ring.
    pub(crate) LOG_HEAD(u32)[FUNCTIONS, stride = STRIDE] @ 0x1004 {
        /// Count, modulo 2^32.
        31:0 count;
    }

    /// Drops the commands of a function.
    pub(crate) FN_ABORT(u32)[FUNCTIONS, stride = STRIDE] @ 0x1010 {
        /// Reads as 1 until the commands are dropped.
        0:0 abort => bool;
    }
}

/// Compares a register with its offset in the header.
macro_rules! at {
    ($($name:ident = $($offset:ident)+;)*) => {
        $(static_assert!(
            <$name as Register>::OFFSET == 0 $(+ dlr::$offset as usize)+
        );)*
    };
}

at! {
    MAGIC = DLR_REG_MAGIC;
    VERSION = DLR_REG_VERSION;
    NUM_FUNCTIONS = DLR_REG_NUM_FUNCTIONS;
    CMD_TIMEOUT = DLR_REG_CMD_TIMEOUT;
    SERIAL_LO = DLR_REG_SERIAL_LO;
    SERIAL_HI = DLR_REG_SERIAL_HI;
    AQ_MAX_ORDER = DLR_REG_AQ_MAX_ORDER;
    CONTROL = DLR_REG_CONTROL;
    STATUS = DLR_REG_STATUS;
    SQ_BASE_LO = DLR_REG_SQ_BASE_LO;
    SQ_BASE_HI = DLR_REG_SQ_BASE_HI;
    CQ_BASE_LO = DLR_REG_CQ_BASE_LO;
    CQ_BASE_HI = DLR_REG_CQ_BASE_HI;
    AQ_ATTR = DLR_REG_AQ_ATTR;
    AQ_VECTOR = DLR_REG_AQ_VECTOR;
    SQ_TAIL = DLR_REG_SQ_TAIL;
    CQ_HEAD = DLR_REG_CQ_HEAD;
    LOG_POSTED = DLR_REG_FN_BASE DLR_REG_LOG_POSTED;
    LOG_HEAD = DLR_REG_FN_BASE DLR_REG_LOG_HEAD;
    FN_ABORT = DLR_REG_FN_BASE DLR_REG_FN_ABORT;
}

static_assert!(CONTROL::ENABLE_MASK == dlr::DLR_CONTROL_ENABLE);
static_assert!(CONTROL::RESET_MASK == dlr::DLR_CONTROL_RESET);
static_assert!(STATUS::READY_MASK == dlr::DLR_MF_STATUS_READY);
static_assert!(STATUS::FATAL_MASK == dlr::DLR_MF_STATUS_FATAL);
static_assert!(LOG_POSTED::ERROR_MASK == dlr::DLR_LOG_POSTED_ERROR);
static_assert!(LOG_POSTED::COUNT_MASK == dlr::DLR_LOG_POSTED_COUNT_MASK);
static_assert!(FN_ABORT::ABORT_MASK == dlr::DLR_FN_ABORT);

/// Value of [`MAGIC`].
pub(crate) const MAGIC_VALUE: u32 = dlr::DLR_MAGIC;

/// Returns the place of a register of a data function.
///
/// # Errors
///
/// `EINVAL` if the contract has no function of this number.
pub(crate) fn of_function<T: Array + RegisterArray>(function: u32) -> Result<RegisterArrayLoc<T>> {
    // CAST: `usize` has 64 bits.
    T::try_at(function as usize).ok_or(EINVAL)
}

impl VERSION {
    /// Returns whether the driver supports this contract version: it must know the major, and
    /// accepts any minor.
    pub(crate) fn is_known(self) -> bool {
        self.major() == Self::from_raw(dlr::DLR_CONTRACT_VERSION).major()
    }
}

impl STATUS {
    /// Returns whether the register reads as all ones, as it does if the device is gone.
    pub(crate) const fn is_gone(self) -> bool {
        self.into_raw() == u32::MAX
    }
}

impl CONTROL {
    /// See [`STATUS::is_gone`].
    pub(crate) const fn is_gone(self) -> bool {
        self.into_raw() == u32::MAX
    }
}

impl AQ_MAX_ORDER {
    /// Chooses one order for both rings: `wish`, limited to what the contract and the device allow.
    ///
    /// # Errors
    ///
    /// `EPROTO` if the device's maximum is outside the limits of the contract.
    pub(crate) fn choose(self, wish: u32) -> Result<u32> {
        let most = self.sq().get().min(self.cq().get());
        if !(dlr::DLR_AQ_MIN_ORDER..=dlr::DLR_AQ_MAX_ORDER).contains(&most) {
            return Err(EPROTO);
        }
        Ok(wish.clamp(dlr::DLR_AQ_MIN_ORDER, most))
    }
}

impl AQ_ATTR {
    /// Returns the value for two rings of `1 << order` entries; `order` is one that
    /// [`AQ_MAX_ORDER::choose`] returned.
    pub(crate) fn of(order: u32) -> Self {
        let order = Bounded::<u32, 8>::from_expr(order & 0xff);
        Self::zeroed().with_sq(order).with_cq(order)
    }
}

impl LOG_POSTED {
    /// Returns the number of entries posted since LOG_START, modulo 2^31.
    ///
    /// # Errors
    ///
    /// `EIO` if the register has no count.
    pub(crate) fn posted(self) -> Result<u32> {
        if self.error() {
            return Err(EIO);
        }
        Ok(self.count().get())
    }
}

#[kunit_tests(dlr_proto_regs)]
mod tests {
    use super::*;

    #[test]
    fn function_registers() {
        let last = dlr::DLR_MAX_FUNCTIONS - 1;
        assert!(of_function::<FN_ABORT>(last).is_ok());
        assert_eq!(
            of_function::<FN_ABORT>(last + 1).err().map(Error::to_errno),
            Some(EINVAL.to_errno())
        );
        // The registers of the last function are in the BAR.
        static_assert!(FN_ABORT::OFFSET + FUNCTIONS * STRIDE <= BAR_SIZE);
    }

    #[test]
    fn orders() -> Result {
        assert_eq!(AQ_MAX_ORDER::from_raw(0x0a08).choose(6)?, 6);
        assert_eq!(AQ_MAX_ORDER::from_raw(0x0408).choose(6)?, 4);
        assert_eq!(AQ_MAX_ORDER::from_raw(0x0a0a).choose(0)?, 2);
        assert!(AQ_MAX_ORDER::from_raw(0x0a00).choose(6).is_err());
        assert!(AQ_MAX_ORDER::from_raw(u32::MAX).choose(6).is_err());
        assert_eq!(AQ_ATTR::of(6).into_raw(), 0x0606);
        Ok(())
    }

    #[test]
    fn posted_errors() -> Result {
        assert_eq!(LOG_POSTED::from_raw(0x7fff_fff0).posted()?, 0x7fff_fff0);
        assert!(LOG_POSTED::from_raw(0x8000_0001).posted().is_err());
        assert!(LOG_POSTED::from_raw(u32::MAX).posted().is_err());
        Ok(())
    }

    #[test]
    fn versions() {
        assert!(VERSION::from_raw(0x0002_0000).is_known());
        assert!(VERSION::from_raw(0x0002_0007).is_known());
        assert!(!VERSION::from_raw(0x0001_0000).is_known());
        assert!(!VERSION::from_raw(0x0003_0000).is_known());
        assert!(!VERSION::from_raw(u32::MAX).is_known());
    }
}
