// SPDX-License-Identifier: GPL-2.0

//! Module parameters: read and checked once, when the module is loaded.

use kernel::{
    prelude::*,
    sync::SetOnce, //
};

/// The parameters, in range.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Config {
    /// log2 of the entries of a dirty-log ring. A function whose limits are narrower gets those.
    pub(crate) log_ring_order: u16,
    /// Buffers of a save session: this many reads from the device can be in flight or wait for the user.
    pub(crate) save_buffers: usize,
    /// Bytes of one such buffer, a multiple of 4 KiB.
    pub(crate) save_buffer_size: usize,
}

static CONFIG: SetOnce<Config> = SetOnce::new();

impl Config {
    /// What holds when nothing is set.
    pub(crate) const DEFAULT: Self = Self {
        log_ring_order: 16,
        save_buffers: 4,
        save_buffer_size: 256 << 10,
    };

    /// Checks raw values; a failure says what is wrong.
    fn new(
        log_ring_order: u32,
        save_buffers: u32,
        save_buffer_kib: u32,
    ) -> Result<Self, &'static str> {
        if !(4..=19).contains(&log_ring_order) {
            return Err("log_ring_order is not in 4..19");
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
            save_buffers: save_buffers as usize,
            save_buffer_size: (save_buffer_kib as usize) << 10,
        })
    }

    /// Reads the parameters. Called when the module is loaded, before any driver is registered.
    ///
    /// # Errors
    ///
    /// `EINVAL` when one is out of range; the log says which.
    pub(crate) fn load() -> Result {
        let params = Self::new(
            crate::module_parameters::log_ring_order.value(),
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

    /// The parameters that the module was loaded with.
    pub(crate) fn get() -> Self {
        CONFIG.copy().unwrap_or(Self::DEFAULT)
    }
}

#[kunit_tests(dlr_params)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_in_range() {
        assert_eq!(Config::new(16, 4, 256).ok(), Some(Config::DEFAULT));
    }

    #[test]
    fn limits() {
        assert!(Config::new(4, 2, 4).is_ok());
        assert!(Config::new(19, 64, 4096).is_ok());
        assert!(Config::new(3, 4, 256).is_err());
        assert!(Config::new(20, 4, 256).is_err());
        assert!(Config::new(16, 1, 256).is_err());
        assert!(Config::new(16, 65, 256).is_err());
        assert!(Config::new(16, 4, 0).is_err());
        assert!(Config::new(16, 4, 6).is_err());
        assert!(Config::new(16, 4, u32::MAX).is_err());
    }
}
