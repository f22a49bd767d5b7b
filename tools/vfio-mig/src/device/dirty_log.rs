// SPDX-License-Identifier: Apache-2.0 OR MIT

//! The DMA log of a device.

use std::io;

use vfio_bindings::bindings::vfio as vb;

use super::{Device, Direction};
use crate::{bitmap::DirtyBitmap, range::IovaRange, sys};

impl Device {
    /// Starts DMA logging. It stops when the answer is dropped.
    ///
    /// # Errors
    ///
    /// The kernel's errno.
    pub fn log_start(&self, page_size: u64, ranges: &[IovaRange]) -> io::Result<DirtyLog<'_>> {
        log::debug!("{}: DMA_LOGGING_START", self.node.name);
        let pairs: Vec<(u64, u64)> = ranges.iter().map(|r| (r.iova, r.length)).collect();
        let granule = sys::log_start(self.fd(), page_size, &pairs)?;
        Ok(DirtyLog {
            device: self,
            granule,
            started: true,
        })
    }
}

/// A running DMA log; dropping it stops it.
pub struct DirtyLog<'a> {
    device: &'a Device,
    granule: u64,
    started: bool,
}

impl DirtyLog<'_> {
    /// Bytes per page of the log, as the device chose.
    pub fn granule(&self) -> u64 {
        self.granule
    }

    /// Pages of `range`, of `page_size` bytes each, that the device wrote since they were last
    /// reported.
    ///
    /// # Errors
    ///
    /// The kernel's errno; the log is then useless and every page has to count as dirty.
    pub fn report(&self, range: IovaRange, page_size: u64) -> io::Result<DirtyBitmap> {
        let mut bitmap = DirtyBitmap::new(range.length.div_ceil(page_size.max(1)));
        sys::log_report(
            self.device.fd(),
            range.iova,
            range.length,
            page_size,
            bitmap.words_mut(),
        )?;
        Ok(bitmap)
    }

    /// Stops it.
    ///
    /// # Errors
    ///
    /// The kernel's errno.
    pub fn stop(mut self) -> io::Result<()> {
        self.stop_now()
    }

    fn stop_now(&mut self) -> io::Result<()> {
        if !std::mem::replace(&mut self.started, false) {
            return Ok(());
        }
        log::debug!("{}: DMA_LOGGING_STOP", self.device.node.name);
        let index = vb::VFIO_DEVICE_FEATURE_DMA_LOGGING_STOP;
        self.device.feature(Direction::Set, index, 0).map(drop)
    }
}

impl Drop for DirtyLog<'_> {
    fn drop(&mut self) {
        if let Err(e) = self.stop_now() {
            log::warn!("{}: cannot stop DMA logging: {e}", self.device.node.name);
        }
    }
}
