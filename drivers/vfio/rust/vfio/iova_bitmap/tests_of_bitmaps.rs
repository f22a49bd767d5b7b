// SPDX-License-Identifier: GPL-2.0

//! Tests of IOVA ranges and of the user's bitmap.

use kernel::prelude::*;

#[kunit_tests(vfio_iova_range)]
mod tests {
    use super::super::*;
    use crate::{
        ext::testing::UserMemory,
        vfio::user_bitmap::UserBitmap, //
    };
    use kernel::page::PAGE_SIZE;

    #[test]
    fn bounds() -> Result {
        assert!(IovaRange::new(0, 0).is_err());
        assert!(IovaRange::new(1, u64::MAX).is_err());
        let top = IovaRange::new(u64::MAX - 4096, 4096)?;
        assert_eq!(top.end(), u64::MAX);
        Ok(())
    }

    #[test]
    fn intersections() -> Result {
        let a = IovaRange::new(0x1000, 0x2000)?;
        assert_eq!(a.intersection(&IovaRange::new(0x3000, 0x1000)?), None);
        assert_eq!(a.intersection(&IovaRange::new(0, 0x1000)?), None);
        let expected = IovaRange::new(0x2000, 0x1000)?;
        assert_eq!(
            a.intersection(&IovaRange::new(0x2000, 0x8000)?),
            Some(expected)
        );
        assert_eq!(a.intersection(&a), Some(a));
        Ok(())
    }

    #[test]
    fn runs_are_clamped_at_both_ends() -> Result {
        let range = IovaRange::new(0x12_1000, 0x3000)?;
        let within = |iova, length| clamp(&range, iova, length).map(|r| (r.iova(), r.end()));
        // A granule of 64 KiB that begins below and ends above.
        assert_eq!(within(0x12_0000, 0x1_0000), Some((0x12_1000, 0x12_4000)));
        // One end each.
        assert_eq!(within(0x12_0000, 0x2000), Some((0x12_1000, 0x12_2000)));
        assert_eq!(within(0x12_3000, 0x2000), Some((0x12_3000, 0x12_4000)));
        assert_eq!(within(0x12_2000, 0x1000), Some((0x12_2000, 0x12_3000)));
        // Outside, empty, to the top and beyond.
        assert_eq!(within(0x12_0000, 0x1000), None);
        assert_eq!(within(0x12_4000, 0x1000), None);
        assert_eq!(within(0x12_2000, 0), None);
        assert_eq!(within(0, u64::MAX), Some((0x12_1000, 0x12_4000)));
        assert_eq!(within(0x12_3000, u64::MAX), Some((0x12_3000, 0x12_4000)));
        let top = IovaRange::new(0, u64::MAX)?;
        let all = clamp(&top, 0x1000, u64::MAX).map(|r| (r.iova(), r.end()));
        assert_eq!(all, Some((0x1000, u64::MAX)));
        Ok(())
    }

    /// The run sets bits 32766 and 32767 in the first page and bit 32768 in a second page that is
    /// not mapped.
    #[test]
    fn m2_what_cannot_be_pinned_is_an_error_where_the_core_tells() -> Result {
        let mut memory = UserMemory::new(2 * PAGE_SIZE)?;
        memory.truncate(PAGE_SIZE)?;
        let mut bitmap = UserBitmap::new(IovaRange::new(0, 1 << 28)?, &memory)?;
        let told = bitmap.sink().set_run(0x7ffe << 12, 3 << 12);
        assert_eq!(told, if tells_errors() { Err(EFAULT) } else { Ok(()) });
        drop(bitmap);
        let bytes = memory.read()?;
        assert_eq!(bytes.last(), Some(&0xc0));
        assert!(bytes.iter().rev().skip(1).all(|byte| *byte == 0));
        Ok(())
    }

    #[test]
    fn m2_nothing_is_pinned_for_a_bitmap_that_is_not_there() -> Result {
        let mut memory = UserMemory::new(PAGE_SIZE)?;
        memory.truncate(0)?;
        let mut bitmap = UserBitmap::new(IovaRange::new(0, 1 << 27)?, &memory)?;
        for run in [0, 0x7fff << 12] {
            let told = bitmap.sink().set_run(run, 4096);
            assert_eq!(told, if tells_errors() { Err(EFAULT) } else { Ok(()) });
        }
        Ok(())
    }

    #[test]
    fn bits_arrive() -> Result {
        let memory = UserMemory::new(2 * PAGE_SIZE)?;
        let mut bitmap = UserBitmap::new(IovaRange::new(0x10_0000, 1 << 28)?, &memory)?;
        let mut sink = bitmap.sink();
        sink.set_run(0x10_0000 + (9 << 12), 2 << 12)?;
        sink.set_run(0x10_0000 + (0x7fff << 12), 2 << 12)?;
        drop(bitmap);
        let bytes = memory.read()?;
        assert_eq!(bytes.get(1), Some(&0x06));
        assert_eq!(
            bytes.get(PAGE_SIZE - 1..PAGE_SIZE + 1),
            Some(&[0x80, 0x01][..])
        );
        assert_eq!(bytes.iter().filter(|byte| **byte != 0).count(), 3);
        Ok(())
    }
}
