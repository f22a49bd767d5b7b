// SPDX-License-Identifier: GPL-2.0

//! A device with DMA memory for `make bench`.
//!
//! Built only with `DLR_BENCH=y` (see Kbuild), which the driver that users load is built without.

use super::dma_pool::{
    Pool,
    Slice, //
};
use kernel::{
    device::{
        Bound,
        Device, //
    },
    error::to_result,
    faux,
    prelude::*,
    sync::Arc,
    transmute::{
        AsBytes,
        FromBytes, //
    },
};

/// A device that can do coherent DMA.
pub(crate) struct DmaDevice {
    pool: Arc<Pool>,
    registration: faux::Registration,
}

impl DmaDevice {
    /// Registers a faux device named `name`, with a DMA mask of 64 bits.
    ///
    /// # Errors
    ///
    /// `ENOMEM`, or the error with which registering the device failed.
    pub(crate) fn new(name: &'static CStr) -> Result<Self> {
        let this = Self {
            // SAFETY: `drop` closes the pool before the device is unbound.
            pool: unsafe { Pool::new()? },
            registration: faux::Registration::new(name, None)?,
        };
        let raw = core::ptr::from_ref(this.bound())
            .cast_mut()
            .cast::<kernel::bindings::device>();
        // SAFETY: `raw` is a valid device that only this function uses yet. The rest is what
        // `dma_coerce_mask_and_coherent()` does.
        unsafe {
            (*raw).dma_mask = &raw mut (*raw).coherent_dma_mask;
            to_result(kernel::bindings::dma_set_mask_and_coherent(raw, u64::MAX))?;
        }
        Ok(this)
    }

    fn bound(&self) -> &Device<Bound> {
        self.registration.as_ref().as_ref()
    }

    /// Allocates DMA memory for `len` values of type `T`.
    ///
    /// # Errors
    ///
    /// See [`Pool::alloc`].
    pub(crate) fn alloc<T>(&self, len: usize) -> Result<Slice<T>>
    where
        T: AsBytes + FromBytes + Send + 'static,
    {
        self.pool.alloc(self.bound(), len, GFP_KERNEL)
    }
}

impl Drop for DmaDevice {
    fn drop(&mut self) {
        self.pool.close();
    }
}
