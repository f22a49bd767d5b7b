// SPDX-License-Identifier: GPL-2.0

//! Tests of pools of DMA memory.

use kernel::prelude::*;

#[kunit_tests(dma_pool)]
mod tests {
    use super::super::*;
    use crate::ext::testing::DmaDevice;

    /// Closing the pool frees the memory of a slice that still exists.
    #[test]
    fn closing_frees_under_users() -> Result {
        let dev = DmaDevice::new(c"kunit-pool-close")?;
        let kept = dev.alloc::<u64>(512)?;
        drop(dev.alloc::<u8>(4096)?);
        assert_eq!(dev.pool().count(), 1);
        assert_eq!(kept.with(|memory| memory.len()), Ok(512));
        dev.pool().close();
        assert_eq!(dev.pool().count(), 0);
        assert_eq!(kept.with(|_| ()), Err(ENOTCONN));
        assert_eq!(dev.alloc::<u8>(64).err(), Some(ENOTCONN));
        drop(kept);
        Ok(())
    }

    /// Dropping a slice in any order leaves the others on the list.
    #[test]
    fn pieces_are_freed_in_any_order() -> Result {
        const COUNT: usize = 32;
        let dev = DmaDevice::new(c"kunit-pool-order")?;
        let mut pieces = KVec::new();
        for _ in 0..COUNT {
            pieces.push(Some(dev.alloc::<u8>(64)?), GFP_KERNEL)?;
        }
        for step in 0..COUNT {
            assert_eq!(dev.pool().count(), COUNT - step);
            // 5 and 32 have no common divisor, so each index comes once.
            let piece = pieces[step * 5 % COUNT].take().ok_or(EINVAL)?;
            assert_eq!(piece.with(|memory| memory.len()), Ok(64));
        }
        assert_eq!(dev.pool().count(), 0);
        Ok(())
    }
}
