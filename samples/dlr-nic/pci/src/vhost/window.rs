// SPDX-License-Identifier: Apache-2.0 OR MIT

//! The IOMMU that user-mode Linux lacks, as a BAR of the function: what maps memory for the function's
//! DMA (`IOMMU_IOAS_MAP`) says here where that memory is (`IOMMU_IOAS_NOIOMMU_GET_PA`). What nobody
//! mapped cannot be reached.
//!
//! | offset | | |
//! | --- | --- | --- |
//! | 0x00 | r | [`MAGIC`] |
//! | 0x08 | w | IOVA |
//! | 0x10 | w | physical address |
//! | 0x18 | w | length |
//! | 0x20 | w | 1: maps the range; 2: unmaps it; 3: unmaps everything |
//! | 0x28 | r | how many commands have failed since the last 3 |
//!
//! Registers have 8 bytes. Addresses and lengths are whole pages.

use std::fs::File;

use vm_memory::Permissions;

use crate::dma::DmaSpace;

/// The BAR and its size.
pub(super) const BAR: u8 = 4;
pub(super) const SIZE: u64 = 4096;

/// Says that this is it.
const MAGIC: u64 = u64::from_le_bytes(*b"NOIOMMU1");

const FAILURES: u64 = 0x28;

/// A part of the client's memory.
pub(super) struct Region {
    /// Its physical address.
    pub(super) start: u64,
    /// Its length.
    pub(super) len: u64,
    /// Where its bytes are.
    pub(super) file: File,
    /// From here on.
    pub(super) offset: u64,
}

/// The registers.
#[derive(Default)]
pub(super) struct Window {
    regions: Vec<Region>,
    iova: u64,
    physical: u64,
    length: u64,
    failures: u64,
}

impl Window {
    /// What the client shares.
    pub(super) fn set_memory(&mut self, regions: Vec<Region>) {
        self.regions = regions;
    }

    /// Reads a register.
    pub(super) fn read(&self, offset: u64, data: &mut [u8]) {
        let value = match offset {
            0 => MAGIC,
            FAILURES => self.failures,
            _ => 0,
        };
        for (to, from) in data.iter_mut().zip(value.to_le_bytes()) {
            *to = from;
        }
    }

    /// Writes a register; a command changes `space`.
    pub(super) fn write(&mut self, offset: u64, data: &[u8], space: &DmaSpace) {
        let Ok(value) = data.try_into().map(u64::from_le_bytes) else {
            self.failures += 1;
            return;
        };
        match (offset, value) {
            (0x08, _) => self.iova = value,
            (0x10, _) => self.physical = value,
            (0x18, _) => self.length = value,
            (0x20, 1) if self.map(space).is_some() => (),
            (0x20, 2) => space.unmap(self.iova, self.length),
            (0x20, 3) => {
                space.unmap_all();
                self.failures = 0;
            }
            _ => self.failures += 1,
        }
    }

    fn map(&self, space: &DmaSpace) -> Option<()> {
        let end = self.physical.checked_add(self.length)?;
        let holds = |region: &&Region| {
            let last = region.start.checked_add(region.len);
            region.start <= self.physical && last.is_some_and(|last| end <= last)
        };
        let region = self.regions.iter().find(holds)?;
        let offset = region.offset + (self.physical - region.start);
        let fd = region.file.try_clone().ok()?.into();
        space
            .map(self.iova, self.length, fd, offset, Permissions::ReadWrite)
            .inspect_err(|e| log::warn!("{:#x} cannot be mapped: {e}", self.iova))
            .ok()
    }
}

#[cfg(test)]
mod tests {
    use std::{io::Write, sync::Arc};

    use dlr_core::DmaMemory;
    use rustix::fs::{fcntl_add_seals, memfd_create, MemfdFlags, SealFlags};

    use super::*;

    fn window() -> (Window, DmaSpace) {
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let mut file = File::from(memfd_create("window", flags).unwrap());
        for page in 0..8u8 {
            file.write_all(&[page; 4096]).unwrap();
        }
        fcntl_add_seals(&file, SealFlags::SHRINK).unwrap();
        let mut window = Window::default();
        window.set_memory(vec![Region {
            start: 0x10_0000,
            len: 0x4000,
            file,
            offset: 0x2000,
        }]);
        (window, DmaSpace::new(Arc::default(), None))
    }

    fn command(window: &mut Window, space: &DmaSpace, words: [u64; 4]) -> u64 {
        for (offset, value) in [0x08, 0x10, 0x18, 0x20].into_iter().zip(words) {
            window.write(offset, &value.to_le_bytes(), space);
        }
        let mut failures = [0; 8];
        window.read(FAILURES, &mut failures);
        u64::from_le_bytes(failures)
    }

    #[test]
    fn what_is_mapped_is_reached_and_nothing_else() {
        let (mut window, space) = window();
        let mut byte = [0];
        assert!(space.read(0x5000, &mut byte).is_err());
        assert_eq!(
            command(&mut window, &space, [0x5000, 0x10_1000, 0x2000, 1]),
            0
        );
        space.read(0x5000, &mut byte).unwrap();
        assert_eq!(byte, [3]);
        space.read(0x6fff, &mut byte).unwrap();
        assert_eq!(byte, [4]);
        assert!(space.read(0x7000, &mut byte).is_err());
        assert_eq!(command(&mut window, &space, [0x5000, 0, 0x1000, 2]), 0);
        assert!(space.read(0x5000, &mut byte).is_err());
        space.read(0x6000, &mut byte).unwrap();
        assert_eq!(command(&mut window, &space, [0, 0, 0, 3]), 0);
        assert!(space.read(0x6000, &mut byte).is_err());
    }

    #[test]
    fn memory_that_is_not_shared_cannot_be_mapped() {
        let (mut window, space) = window();
        for (n, (physical, length)) in [
            (0xf_f000, 0x1000),
            (0x10_3000, 0x2000),
            (u64::MAX - 0xfff, 0x1000),
            (0x10_0001, 0x1000),
        ]
        .into_iter()
        .enumerate()
        {
            let failed = command(&mut window, &space, [0x5000, physical, length, 1]);
            assert_eq!(failed, n as u64 + 1);
        }
        assert_eq!(command(&mut window, &space, [0, 0, 0, 9]), 5);
        let mut magic = [0; 8];
        window.read(0, &mut magic);
        assert_eq!(&magic, b"NOIOMMU1");
    }
}
