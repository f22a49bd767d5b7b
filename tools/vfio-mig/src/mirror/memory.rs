// SPDX-License-Identifier: Apache-2.0 OR MIT

//! The memory of a virtual machine: two regions, one of them above 4 GiB.

use std::{fs::File, sync::Arc};

use anyhow::{Context, Result};
use rustix::fs::MemfdFlags;
use serde::Serialize;
use vm_memory::{
    bitmap::AtomicBitmap, mmap::MmapRegion, Bytes, FileOffset, GuestAddress, GuestMemoryBackend,
    GuestMemoryMmap, GuestMemoryRegion, GuestRegionMmap,
};

use crate::{bitmap::DirtyBitmap, device::Device, range::IovaRange, sys::DmaMapping};

/// Bytes of a page: what is tracked, copied and compared.
pub const PAGE: u64 = 4096;
/// Huge pages keep an IOMMU's page tables short.
pub const HUGE_PAGE: u64 = 2 << 20;

/// Guest memory whose writes through `vm-memory` mark pages dirty.
pub type GuestMemory = GuestMemoryMmap<AtomicBitmap>;

/// Use huge pages?
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum HugePages {
    /// If there are enough.
    Auto,
    /// Or fail.
    Always,
    /// Small pages.
    Never,
}

/// The memory of one virtual machine.
pub struct Memory {
    guest: GuestMemory,
    huge: bool,
}

/// A page that differs although nobody said that it was written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LostPage {
    /// Its first byte.
    pub iova: u64,
    /// Offset of the first byte that differs.
    pub first: u64,
    /// Number of bytes that differ.
    pub bytes: u64,
}

fn anonymous_file(length: u64, huge: bool) -> rustix::io::Result<File> {
    let mut flags = MemfdFlags::CLOEXEC;
    if huge {
        flags |= MemfdFlags::HUGETLB | MemfdFlags::HUGE_2MB;
    }
    let file = File::from(rustix::fs::memfd_create("vfio-mig", flags)?);
    rustix::fs::ftruncate(&file, length)?;
    // Allocated now: a fault that finds no huge page left would be a SIGBUS.
    rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, length)?;
    Ok(file)
}

impl Memory {
    /// Zeroed memory in `ranges`, multiples of [`HUGE_PAGE`].
    ///
    /// # Errors
    ///
    /// There is not enough memory, or not enough huge pages.
    pub fn new(ranges: &[IovaRange], huge_pages: HugePages) -> Result<Self> {
        let hint = "reserve some: echo 128 > /proc/sys/vm/nr_hugepages, or use --huge-pages never";
        match huge_pages {
            HugePages::Never => Self::with_pages(ranges, false),
            HugePages::Always => Self::with_pages(ranges, true)
                .with_context(|| format!("not enough huge pages of 2 MiB; {hint}")),
            HugePages::Auto => Self::with_pages(ranges, true).or_else(|e| {
                log::info!("no huge pages ({e:#}); using small ones");
                Self::with_pages(ranges, false)
            }),
        }
    }

    fn with_pages(ranges: &[IovaRange], huge: bool) -> Result<Self> {
        let region = |range: &IovaRange| -> Result<GuestRegionMmap<AtomicBitmap>> {
            let file = anonymous_file(range.length, huge)
                .with_context(|| format!("cannot allocate {} bytes", range.length))?;
            let length = usize::try_from(range.length)?;
            let mapping = MmapRegion::from_file(FileOffset::new(file, 0), length)
                .context("cannot map the memory")?;
            GuestRegionMmap::new(mapping, GuestAddress(range.iova))
                .context("the memory does not fit into the address space")
        };
        let regions = ranges.iter().map(region).collect::<Result<Vec<_>>>()?;
        let guest = GuestMemory::from_regions(regions).context("the ranges overlap")?;
        Ok(Self { guest, huge })
    }

    /// Is it made of huge pages?
    pub fn is_huge(&self) -> bool {
        self.huge
    }

    /// For whoever plays the CPU.
    pub fn guest(&self) -> &GuestMemory {
        &self.guest
    }

    /// The ranges, upwards.
    pub fn ranges(&self) -> Vec<IovaRange> {
        let range = |region: &GuestRegionMmap<AtomicBitmap>| IovaRange {
            iova: region.start_addr().0,
            length: region.len(),
        };
        self.guest.iter().map(range).collect()
    }

    /// Pages in all ranges.
    pub fn pages(&self) -> u64 {
        self.ranges().iter().map(|r| r.length / PAGE).sum()
    }

    /// Lets `device` write into all of it, for as long as the answer lives.
    ///
    /// # Errors
    ///
    /// The kernel refuses.
    pub fn map(&self, device: &Device) -> Result<Vec<DmaMapping>> {
        let map = |region: &GuestRegionMmap<AtomicBitmap>| {
            device.map(region.start_addr().0, region.get_mmap())
        };
        self.guest.iter().map(map).collect()
    }

    /// The pages of region `index` that were written through [`Memory::guest`] since they were
    /// last asked for.
    pub fn take_cpu_dirty(&self, index: usize) -> DirtyBitmap {
        let Some(region) = self.guest.iter().nth(index) else {
            return DirtyBitmap::new(0);
        };
        let region: &MmapRegion<AtomicBitmap> = region;
        let mut bitmap = DirtyBitmap::new(region.size() as u64 / PAGE);
        bitmap.merge(&region.bitmap().get_and_reset());
        bitmap
    }

    /// Copies the marked pages of region `index` from `source`.
    ///
    /// # Errors
    ///
    /// The memories are not alike.
    pub fn copy_from(&self, source: &Self, index: usize, pages: &DirtyBitmap) -> Result<()> {
        let (own, other) = self.pair(source, index)?;
        let mut page = [0; PAGE as usize];
        for number in pages.runs().flatten() {
            let at = vm_memory::MemoryRegionAddress(number * PAGE);
            other.read_slice(&mut page, at)?;
            own.write_slice(&page, at)?;
        }
        Ok(())
    }

    /// The pages that differ from those of `source`, upwards by IOVA.
    ///
    /// # Errors
    ///
    /// The memories are not alike.
    pub fn compare(&self, source: &Self) -> Result<Vec<LostPage>> {
        let mut lost = Vec::new();
        let (mut a, mut b) = ([0; PAGE as usize], [0; PAGE as usize]);
        for index in 0..self.guest.num_regions() {
            let (own, other) = self.pair(source, index)?;
            for offset in (0..own.len()).step_by(PAGE as usize) {
                let at = vm_memory::MemoryRegionAddress(offset);
                own.read_slice(&mut a, at)?;
                other.read_slice(&mut b, at)?;
                if a != b {
                    let differ = |(_, (x, y)): &(usize, (&u8, &u8))| x != y;
                    let mut bytes = a.iter().zip(&b).enumerate().filter(differ);
                    let first = bytes.next().map_or(0, |(at, _)| at as u64);
                    lost.push(LostPage {
                        iova: own.start_addr().0 + offset,
                        first,
                        bytes: 1 + bytes.count() as u64,
                    });
                }
            }
        }
        Ok(lost)
    }

    fn pair<'a>(
        &'a self,
        other: &'a Self,
        index: usize,
    ) -> Result<(
        &'a GuestRegionMmap<AtomicBitmap>,
        &'a GuestRegionMmap<AtomicBitmap>,
    )> {
        let own = self.guest.iter().nth(index).context("no such region")?;
        let other = other.guest.iter().nth(index).context("no such region")?;
        anyhow::ensure!(
            (own.start_addr(), own.len()) == (other.start_addr(), other.len()),
            "the two memories are not alike"
        );
        Ok((own, other))
    }
}

/// Says of the whole memory that all of it counts as dirty.
pub fn all_dirty(ranges: &[IovaRange]) -> Vec<DirtyBitmap> {
    let full = |range: &IovaRange| {
        let mut bitmap = DirtyBitmap::new(range.length / PAGE);
        bitmap.set_all();
        bitmap
    };
    ranges.iter().map(full).collect()
}

/// Reference counted, for those who share it with threads.
pub type SharedMemory = Arc<Memory>;

#[cfg(test)]
mod tests {
    use super::*;

    fn ranges() -> Vec<IovaRange> {
        vec![
            IovaRange {
                iova: 1 << 30,
                length: HUGE_PAGE,
            },
            IovaRange {
                iova: 1 << 32,
                length: 2 * HUGE_PAGE,
            },
        ]
    }

    fn memory() -> Memory {
        Memory::new(&ranges(), HugePages::Never).expect("memory")
    }

    #[test]
    fn what_the_cpu_writes_is_known_once() {
        let memory = memory();
        assert_eq!(memory.ranges(), ranges());
        assert_eq!(memory.pages(), 3 * 512);
        memory
            .guest()
            .write_obj(7u64, GuestAddress((1 << 32) + PAGE - 4))
            .expect("written");
        assert_eq!(memory.take_cpu_dirty(0).count(), 0);
        assert_eq!(
            memory.take_cpu_dirty(1).runs().collect::<Vec<_>>(),
            vec![0..2; 1]
        );
        assert_eq!(memory.take_cpu_dirty(1).count(), 0);
        assert_eq!(memory.take_cpu_dirty(2).pages(), 0);
    }

    #[test]
    fn a_page_nobody_copied_is_lost() {
        let (source, shadow) = (memory(), memory());
        for page in [3, 5] {
            let at = GuestAddress((1 << 32) + page * PAGE + 16);
            source
                .guest()
                .write_obj(0x0101_0101u32, at)
                .expect("written");
        }
        let mut named = DirtyBitmap::new(1024);
        named.set(3);
        shadow.copy_from(&source, 1, &named).expect("copied");
        let lost = shadow.compare(&source).expect("compared");
        let expected = LostPage {
            iova: (1 << 32) + 5 * PAGE,
            first: 16,
            bytes: 4,
        };
        assert_eq!(lost, [expected]);
        named.set(5);
        shadow.copy_from(&source, 1, &named).expect("copied");
        assert_eq!(shadow.compare(&source).expect("compared"), []);
    }

    #[test]
    fn memories_of_other_shapes_are_not_compared() {
        let other = Memory::new(&ranges()[..1], HugePages::Never).expect("memory");
        assert!(memory().compare(&other).is_err());
    }
}
