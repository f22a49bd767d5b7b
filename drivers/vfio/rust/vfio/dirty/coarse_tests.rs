// SPDX-License-Identifier: GPL-2.0

//! Tests of [`coarse`](super::coarse).

use super::{
    coarse::Coarse,
    memory::MemoryLimit,
    span::Span, //
};
use crate::ext::memcg::Charge;
use kernel::prelude::*;

#[kunit_tests(vfio_dirty_coarse)]
mod tests {
    use super::*;

    #[test]
    fn joins() -> Result {
        let mut memory = MemoryLimit::new(usize::MAX, Charge::none());
        let mut c = Coarse::new(16);
        for (a, b) in [(0, 10), (20, 30), (40, 50)] {
            c.insert(span(a, b)?, &mut memory);
        }
        assert_eq!(c.intervals(), 3);
        c.insert(span(10, 41)?, &mut memory);
        assert_eq!(c.intervals(), 1);
        assert_eq!(c.first_in(span(0, 100)?), Span::new(0, 50));
        Ok(())
    }

    #[test]
    fn removes_exactly() -> Result {
        for limit in [16, 0] {
            let mut memory = MemoryLimit::new(usize::MAX, Charge::none());
            let mut c = Coarse::new(limit);
            c.insert(span(0, 100)?, &mut memory);
            c.remove(span(0, 10)?, &mut memory);
            assert_eq!(c.first_in(span(0, 100)?), Span::new(10, 100));
            c.remove(span(90, 200)?, &mut memory);
            assert_eq!(c.first_in(span(0, 300)?), Span::new(10, 90));
            c.remove(span(10, 90)?, &mut memory);
            assert!(c.is_empty());
        }
        Ok(())
    }

    #[test]
    fn splits() -> Result {
        let mut memory = MemoryLimit::new(usize::MAX, Charge::none());
        let mut c = Coarse::new(16);
        c.insert(span(0, 100)?, &mut memory);
        c.remove(span(40, 60)?, &mut memory);
        assert_eq!(c.first_in(span(0, 100)?), Span::new(0, 40));
        assert_eq!(c.first_in(span(40, 60)?), None);
        assert_eq!(c.first_in(span(40, 100)?), Span::new(60, 100));
        assert_eq!(c.first_in(span(45, 61)?), Span::new(60, 61));
        Ok(())
    }

    #[test]
    fn without_memory_only_grows() -> Result {
        let mut memory = MemoryLimit::new(usize::MAX, Charge::none());
        let mut c = Coarse::new(0);
        c.insert(span(0, 10)?, &mut memory);
        c.insert(span(20, 30)?, &mut memory);
        assert_eq!(c.first_in(span(0, 100)?), Span::new(0, 30));
        // There is no memory to cut a hole into the interval, so the hole stays dirty.
        c.remove(span(12, 14)?, &mut memory);
        assert_eq!(c.first_in(span(12, 14)?), Span::new(12, 14));
        Ok(())
    }

    #[test]
    fn slot_and_tree_meet() -> Result {
        let mut memory = MemoryLimit::new(usize::MAX, Charge::none());
        let mut c = Coarse::new(1);
        c.insert(span(20, 30)?, &mut memory);
        c.insert(span(50, 60)?, &mut memory);
        // The second interval is in the slot. `first_in` finds the lower one first.
        assert_eq!(c.first_in(span(0, 100)?), Span::new(20, 30));
        assert_eq!(c.first_in(span(30, 100)?), Span::new(50, 60));
        c.remove(span(22, 55)?, &mut memory);
        assert_eq!(c.first_in(span(0, 22)?), Span::new(20, 22));
        assert_eq!(c.first_in(span(55, 100)?), Span::new(55, 60));
        Ok(())
    }

    fn span(a: u64, b: u64) -> Result<Span> {
        Span::new(a, b).ok_or(EINVAL)
    }
}
