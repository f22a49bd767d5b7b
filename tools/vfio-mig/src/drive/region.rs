// SPDX-License-Identifier: Apache-2.0 OR MIT

//! Regions of the device, and memory for its DMA.

use std::sync::{Arc, Mutex};

use anyhow::{anyhow, Context};
use vfio_bindings::bindings::vfio as vb;
use vm_memory::{bitmap::AtomicBitmap, mmap::MmapRegion, Bytes, VolatileMemory};

use super::{
    answer::{found, lock, unhex, Outcome},
    reply::Found,
};
use crate::{device::Device, sys::DmaMapping};

/// So many bytes are told one by one.
const SHOWN: usize = 4096;
/// Bounds of what one call may ask for.
const MOST: usize = 64 << 20;

/// Memory that the device may write.
struct Mapped {
    iova: u64,
    memory: Arc<MmapRegion<AtomicBitmap>>,
    _mapping: DmaMapping,
}

/// All memory that the device may write, unmapped when it is closed.
#[derive(Default)]
pub(super) struct Memory(Mutex<Vec<Mapped>>);

impl Memory {
    /// Maps fresh memory at `iova`.
    pub(super) fn map(&self, device: &Device, iova: u64, bytes: usize, seed: u32) -> Outcome {
        let bytes = bytes.min(MOST);
        let memory = Arc::new(MmapRegion::new(bytes).context("no memory")?);
        let slice = memory.as_volatile_slice();
        slice
            .write_slice(&pattern(bytes, seed), 0)
            .context("fill")?;
        let mapping = device.map(iova, Arc::clone(&memory))?;
        lock(&self.0).push(Mapped {
            iova,
            memory,
            _mapping: mapping,
        });
        Ok(Found::new())
    }

    /// Tells what is at `iova`.
    pub(super) fn read(&self, iova: u64, bytes: usize) -> Outcome {
        for mapped in lock(&self.0).iter() {
            let offset = iova.checked_sub(mapped.iova);
            let offset = offset.and_then(|offset| usize::try_from(offset).ok());
            let Some(offset) = offset.filter(|offset| *offset < mapped.memory.size()) else {
                continue;
            };
            let mut data = vec![0; bytes.min(MOST)];
            let slice = mapped.memory.as_volatile_slice();
            slice.read_slice(&mut data, offset).context("read")?;
            return Ok(shown(&data));
        }
        Err(anyhow!("no memory is mapped at {iova:#x}").into())
    }

    /// Unmaps all.
    pub(super) fn clear(&self) {
        lock(&self.0).clear();
    }
}

/// Size and flags of a region.
pub(super) fn info(device: &Device, region: u32) -> Found {
    let flags = device.region_flags(region);
    found([
        ("size", device.region_size(region).into()),
        ("mmap", (flags & vb::VFIO_REGION_INFO_FLAG_MMAP != 0).into()),
    ])
}

/// Reads from a region.
pub(super) fn read(device: &Device, region: u32, offset: u64, bytes: usize) -> Outcome {
    let mut data = vec![0; bytes.min(MOST)];
    device.region_read(region, offset, &mut data)?;
    Ok(shown(&data))
}

/// Writes to a region.
pub(super) fn write(device: &Device, region: u32, offset: u64, hex: &str) -> Outcome {
    device.region_write(region, offset, &unhex(hex)?)?;
    Ok(Found::new())
}

/// Writes a pattern to a region.
pub(super) fn fill(device: &Device, region: u32, offset: u64, bytes: usize, seed: u32) -> Outcome {
    if bytes > MOST {
        return Err(anyhow!("{bytes} bytes are too many for one call").into());
    }
    device.region_write(region, offset, &pattern(bytes, seed))?;
    Ok(Found::new())
}

/// Bytes of which no two patterns are alike.
fn pattern(bytes: usize, seed: u32) -> Vec<u8> {
    // A linear congruential generator (Numerical Recipes).
    let mut state = seed;
    let next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    std::iter::repeat_with(next).take(bytes).collect()
}

fn shown(data: &[u8]) -> Found {
    let mut found = found([("crc32c", crc32c::crc32c(data).into())]);
    if data.len() <= SHOWN {
        let hex: String = data.iter().map(|byte| format!("{byte:02x}")).collect();
        found.insert("hex".into(), hex.into());
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_differ_by_seed() {
        assert_eq!(pattern(64, 1), pattern(64, 1));
        assert_ne!(pattern(64, 1), pattern(64, 2));
        assert_ne!(pattern(64, 1)[..32], pattern(64, 1)[32..]);
    }

    #[test]
    fn long_answers_are_checksums() {
        assert_eq!(shown(&[0, 0xff])["hex"], "00ff");
        assert!(!shown(&[0; SHOWN + 1]).contains_key("hex"));
    }
}
