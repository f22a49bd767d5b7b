// SPDX-License-Identifier: GPL-2.0

//! Module parameters. They are read and checked once, when the module is loaded.

use kernel::{
    prelude::*,
    sync::SetOnce, //
};

/// Values of the module parameters, all of them in range.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Config {
    /// Log2 of the number of entries of a dirty-log ring, limited to what the function supports.
    pub(crate) log_ring_order: u16,
    /// Limit in MiB of the bitmap of one log. 0 limits it to 1.2 bits for each tracked granule.
    pub(crate) log_memory_mib: u32,
    /// Number of buffers of a save session. Each holds a read that is in flight or waits for the
    /// user.
    pub(crate) save_buffers: usize,
    /// Size in bytes of one such buffer, a multiple of 4 KiB.
    pub(crate) save_buffer_size: usize,
}

static CONFIG: SetOnce<Config> = SetOnce::new();

impl Config {
    /// The defaults.
    pub(crate) const DEFAULT: Self = Self {
        log_ring_order: 16,
        log_memory_mib: 0,
        save_buffers: 4,
        save_buffer_size: 256 << 10,
    };

    /// Checks the values of the parameters. The error is a message that names the wrong one.
    fn new(
        log_ring_order: u32,
        log_memory_mib: u32,
        save_buffers: u32,
        save_buffer_kib: u32,
    ) -> Result<Self, &'static str> {
        if !(4..=19).contains(&log_ring_order) {
            return Err("log_ring_order is not in 4..19");
        }
        if log_memory_mib > 1 << 20 {
            return Err("log_memory_mib is more than 1048576");
        }
        if !(2..=64).contains(&save_buffers) {
            return Err("save_buffers is not in 2..64");
        }
        if !(4..=4096).contains(&save_buffer_kib) || save_buffer_kib % 4 != 0 {
            return Err("save_buffer_kib is not a multiple of 4 in 4..4096");
        }
        // The checks above make all of these fit.
        Ok(Self {
            log_ring_order: log_ring_order as u16,
            log_memory_mib,
            save_buffers: save_buffers as usize,
            save_buffer_size: (save_buffer_kib as usize) << 10,
        })
    }

    /// Reads the parameters. The module calls this before it registers its drivers.
    ///
    /// # Errors
    ///
    /// `EINVAL` if a parameter is out of range. The kernel log names it.
    pub(crate) fn load() -> Result {
        let params = Self::new(
            crate::module_parameters::log_ring_order.value(),
            crate::module_parameters::log_memory_mib.value(),
            crate::module_parameters::save_buffers.value(),
            crate::module_parameters::save_buffer_kib.value(),
        )
        .map_err(|reason| {
            pr_err!("bad parameter: {}\n", reason);
            EINVAL
        })?;
        CONFIG.populate(params);
        Ok(())
    }

    /// Returns the parameters with which the module was loaded.
    pub(crate) fn get() -> Self {
        CONFIG.copy().unwrap_or(Self::DEFAULT)
    }
}

#[kunit_tests(dlr_params)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_in_range() {
        assert_eq!(Config::new(16, 0, 4, 256).ok(), Some(Config::DEFAULT));
    }

    #[test]
    fn limits() {
        assert!(Config::new(4, 0, 2, 4).is_ok());
        assert!(Config::new(19, 0, 64, 4096).is_ok());
        assert!(Config::new(16, 1 << 20, 4, 256).is_ok());
        assert!(Config::new(16, (1 << 20) + 1, 4, 256).is_err());
        assert!(Config::new(3, 0, 4, 256).is_err());
        assert!(Config::new(20, 0, 4, 256).is_err());
        assert!(Config::new(16, 0, 1, 256).is_err());
        assert!(Config::new(16, 0, 65, 256).is_err());
        assert!(Config::new(16, 0, 4, 0).is_err());
        assert!(Config::new(16, 0, 4, 6).is_err());
        assert!(Config::new(16, 0, 4, u32::MAX).is_err());
    }
}
