// SPDX-License-Identifier: GPL-2.0

//! Tests of states in BARs, without a device.

use super::*;

#[kunit_tests(vfio_bar_state)]
mod tests {
    use super::*;
    use core::cell::RefCell;

    /// Memory BAR 0 has two pieces and a rest.
    const MEMORY: usize = 2 * PIECE + 3;
    const STATE: BarState = BarState::new(&[
        Part::registers16(1, 0x10, 3),
        Part::memory(0),
        Part::registers64(1, 0x20, 1),
        Part::registers32(1, 0x4, 1),
        Part::registers8(1, 0x30, 5),
    ]);
    /// The fake device lacks this BAR.
    const MISSING: BarState = BarState::new(&[Part::memory(2)]);
    const BYTES: usize = 6 + MEMORY + 8 + 4 + 5;

    /// Two BARs, and the accesses so far: width, offset, length.
    struct Fake {
        bars: [RefCell<KVVec<u8>>; 2],
        accesses: RefCell<KVec<(Width, usize, usize)>>,
    }

    impl Fake {
        fn new(seed: u8) -> Result<Self> {
            let fill = |bytes: usize, step: usize| -> Result<_> {
                let mut bar = KVVec::new();
                for at in 0..bytes {
                    bar.push((at / 7 * step) as u8 ^ seed, GFP_KERNEL)?;
                }
                Ok(RefCell::new(bar))
            };
            Ok(Self {
                bars: [fill(MEMORY, 3)?, fill(0x40, 5)?],
                accesses: RefCell::new(KVec::new()),
            })
        }

        fn bar(&self, number: u32) -> Result<View<'_>> {
            let bar = self.bars.get(number as usize).ok_or(ENODEV)?;
            Ok(View(self, bar))
        }

        fn len(&self, number: u32) -> Result<usize> {
            self.bar(number).map(|bar| bar.len())
        }

        /// Returns the registers of the state in BAR 1.
        fn registers(&self) -> [u8; 23] {
            let bar = self.bars[1].borrow();
            let ranges = [0x10..0x16, 0x20..0x28, 0x4..0x8, 0x30..0x35];
            let mut kept = ranges.into_iter().flat_map(|range| bar[range].iter());
            core::array::from_fn(|_| *kept.next().unwrap_or(&0))
        }
    }

    struct View<'a>(&'a Fake, &'a RefCell<KVVec<u8>>);

    impl Access for View<'_> {
        fn len(&self) -> usize {
            self.1.borrow().len()
        }

        fn read(&mut self, width: Width, offset: usize, to: &mut [u8]) -> Result {
            let len = to.len();
            let access = (width, offset, len);
            self.0.accesses.borrow_mut().push(access, GFP_KERNEL)?;
            let bar = self.1.borrow();
            to.copy_from_slice(bar.get(offset..offset + len).ok_or(EINVAL)?);
            Ok(())
        }

        fn write(&mut self, width: Width, offset: usize, from: &[u8]) -> Result {
            let access = (width, offset, from.len());
            self.0.accesses.borrow_mut().push(access, GFP_KERNEL)?;
            let mut bar = self.1.borrow_mut();
            let to = bar.get_mut(offset..offset + from.len()).ok_or(EINVAL)?;
            to.copy_from_slice(from);
            Ok(())
        }
    }

    #[test]
    fn a_state_moves_in_the_order_of_the_list() -> Result {
        let (from, to) = (Fake::new(0x11)?, Fake::new(0xee)?);
        assert_eq!(STATE.bytes_in(|n| from.len(n))? as usize, BYTES);
        let state = STATE.read_from(|n| from.bar(n))?;
        assert_eq!(state.len(), BYTES);
        STATE.write_to(|n| to.bar(n), &state)?;
        assert!(*to.bars[0].borrow() == *from.bars[0].borrow());
        assert_eq!(to.registers(), from.registers());
        // What is not in the list stays.
        assert_eq!(to.bars[1].borrow()[0], Fake::new(0xee)?.bars[1].borrow()[0]);
        let order = [
            (Width::Two, 0x10, 6),
            (Width::Any, 0, PIECE),
            (Width::Any, PIECE, PIECE),
            (Width::Any, 2 * PIECE, 3),
            (Width::Eight, 0x20, 8),
            (Width::Four, 0x4, 4),
            (Width::One, 0x30, 5),
        ];
        assert!(from.accesses.borrow()[..] == order && to.accesses.borrow()[..] == order);
        Ok(())
    }

    #[test]
    fn a_state_of_another_size_is_not_written() -> Result {
        let fake = Fake::new(0)?;
        let mut state = STATE.read_from(|n| fake.bar(n))?;
        fake.accesses.borrow_mut().clear();
        state.push(0, GFP_KERNEL)?;
        for len in [0, BYTES - 1, BYTES + 1] {
            assert_eq!(STATE.write_to(|n| fake.bar(n), &state[..len]), Err(EINVAL));
        }
        assert!(fake.accesses.borrow().is_empty());
        assert_eq!(MISSING.bytes_in(|n| fake.len(n)), Err(ENODEV));
        Ok(())
    }

    #[test]
    fn registers_are_little_endian_and_follow_each_other() -> Result {
        let mut bytes = [0; 6];
        fill(0x502, &mut bytes, |at| Ok((at as u16).to_le_bytes()))?;
        assert_eq!(bytes, [0x02, 0x05, 0x04, 0x05, 0x06, 0x05]);
        let seen = RefCell::new(KVec::new());
        each(0x502, &bytes, |at, b| {
            seen.borrow_mut()
                .push((at, u16::from_le_bytes(b)), GFP_KERNEL)?;
            Ok(())
        })?;
        assert_eq!(
            seen.borrow()[..],
            [(0x502, 0x502), (0x504, 0x504), (0x506, 0x506)]
        );
        Ok(())
    }
}
