// SPDX-License-Identifier: Apache-2.0 OR MIT

//! Devices without an IOMMU whose DMA goes through a table of their own: `dlr-nic` under user-mode
//! Linux (`samples/dlr-nic/pci/src/vhost/window.rs`). The kernel says where mapped memory is
//! (`IOMMU_IOAS_NOIOMMU_GET_PA`), and the device is told.

use std::{fs::File, io, os::fd::BorrowedFd};

use anyhow::{ensure, Context, Result};

/// The region with the registers, its size and what its first register says.
pub(crate) const REGION: u32 = 4;
pub(crate) const SIZE: u64 = 4096;
const MAGIC: [u8; 8] = *b"NOIOMMU1";

const IOVA: u64 = 0x08;
const PHYSICAL: u64 = 0x10;
const LENGTH: u64 = 0x18;
const COMMAND: u64 = 0x20;
const FAILURES: u64 = 0x28;

const MAP: u64 = 1;
const UNMAP: u64 = 2;
const CLEAR: u64 = 3;

/// The table of an open device.
pub struct Translation {
    device: File,
    /// Offset of the region in the device's file.
    at: u64,
}

impl Translation {
    /// The table of `device`, empty, if it has one in the region at `at`.
    ///
    /// # Errors
    ///
    /// The kernel's errno.
    pub(crate) fn find(device: BorrowedFd<'_>, at: u64) -> io::Result<Option<Self>> {
        let mut magic = [0; 8];
        if rustix::io::pread(device, &mut magic, at)? != magic.len() || magic != MAGIC {
            return Ok(None);
        }
        let this = Self {
            device: File::from(device.try_clone_to_owned()?),
            at,
        };
        // A user that was killed has left its entries.
        this.put(COMMAND, CLEAR)?;
        Ok(Some(this))
    }

    /// Maps `[iova, iova + length)`; `find` says where the memory at an IOVA is, and how many bytes
    /// of it follow each other.
    ///
    /// # Errors
    ///
    /// What `find` or the device says.
    pub(crate) fn map(
        &self,
        iova: u64,
        length: u64,
        find: impl Fn(u64, u64) -> io::Result<(u64, u64)>,
    ) -> Result<()> {
        let mut done = 0;
        while done < length {
            let (physical, bytes) =
                find(iova + done, length - done).context("IOMMU_IOAS_NOIOMMU_GET_PA")?;
            ensure!(
                bytes != 0,
                "the kernel finds no memory at {:#x}",
                iova + done
            );
            self.put(IOVA, iova + done)?;
            self.put(PHYSICAL, physical)?;
            self.put(LENGTH, bytes)?;
            self.put(COMMAND, MAP)?;
            done += bytes;
        }
        // Reading also waits for the writes.
        ensure!(self.failures()? == 0, "the device refuses to map {iova:#x}");
        Ok(())
    }

    /// Unmaps a range. Nothing of it is reached when this returns.
    ///
    /// # Errors
    ///
    /// The kernel's errno.
    pub(crate) fn unmap(&self, iova: u64, length: u64) -> io::Result<()> {
        self.put(IOVA, iova)?;
        self.put(LENGTH, length)?;
        self.put(COMMAND, UNMAP)?;
        self.failures().map(drop)
    }

    fn failures(&self) -> io::Result<u64> {
        let mut bytes = [0; 8];
        match rustix::io::pread(&self.device, &mut bytes, self.at + FAILURES)? {
            8 => Ok(u64::from_le_bytes(bytes)),
            _ => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }

    fn put(&self, register: u64, value: u64) -> io::Result<()> {
        match rustix::io::pwrite(&self.device, &value.to_le_bytes(), self.at + register)? {
            8 => Ok(()),
            _ => Err(io::ErrorKind::WriteZero.into()),
        }
    }
}
