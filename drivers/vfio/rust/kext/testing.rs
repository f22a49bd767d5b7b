// SPDX-License-Identifier: GPL-2.0

//! What KUnit tests need.

use kernel::{
    bindings,
    device::{
        Bound,
        Device, //
    },
    error::to_result,
    faux,
    prelude::*, //
};

/// A bound device that can do coherent DMA.
pub(crate) struct DmaDevice(faux::Registration);

impl DmaDevice {
    /// Makes one.
    pub(crate) fn new(name: &'static CStr) -> Result<Self> {
        let this = Self(faux::Registration::new(name, None)?);
        let raw = core::ptr::from_ref(this.bound())
            .cast_mut()
            .cast::<bindings::device>();
        // SAFETY: `raw` is a valid device that nobody else uses yet. The rest is what
        // `dma_coerce_mask_and_coherent()` does.
        unsafe {
            (*raw).dma_mask = &raw mut (*raw).coherent_dma_mask;
            to_result(bindings::dma_set_mask_and_coherent(raw, u64::MAX))?;
        }
        Ok(this)
    }

    /// The device.
    pub(crate) fn bound(&self) -> &Device<Bound> {
        self.0.as_ref().as_ref()
    }
}
