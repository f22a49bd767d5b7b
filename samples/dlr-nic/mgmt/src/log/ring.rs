// SPDX-License-Identifier: Apache-2.0 OR MIT

//! Bookkeeping of one log ring: slots, phases, counts and the interrupt condition. No I/O.

use dlr_abi::abi;

/// One entry of the log, without its phase.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Entry {
    /// `run` granules from the 4 KiB page `page` on were written.
    Write {
        /// IOVA >> 12.
        page: u64,
        /// 1..=[`abi::DLR_LOG_ENTRY_MAX_RUN`].
        run: u64,
    },
    /// Marker of a LOG_SYNC.
    Sync {
        /// At most [`abi::DLR_LOG_COOKIE_BITS`] bits.
        cookie: u64,
    },
    /// The ring was full.
    Lost,
}

impl Entry {
    /// The 64 bits as they stand in memory.
    pub(crate) fn encode(self, phase: bool) -> u64 {
        let (kind, rest) = match self {
            Self::Write { page, run } => (
                abi::DLR_LOG_WRITE,
                page << abi::DLR_LOG_ENTRY_ADDR_SHIFT
                    | (run.saturating_sub(1) & 0xff) << abi::DLR_LOG_ENTRY_RUN_SHIFT,
            ),
            Self::Sync { cookie } => (abi::DLR_LOG_SYNC, cookie << abi::DLR_LOG_ENTRY_ADDR_SHIFT),
            Self::Lost => (abi::DLR_LOG_LOST, 0),
        };
        rest | u64::from(kind) << abi::DLR_LOG_ENTRY_TYPE_SHIFT
            | u64::from(phase) << abi::DLR_LOG_ENTRY_PHASE_SHIFT
    }
}

/// Counts of one ring. Producer and consumer counts run freely, modulo 2^32.
#[derive(Debug)]
pub(crate) struct Ring {
    base: u64,
    order: u32,
    posted: u32,
    head: u32,
    threshold: u32,
    vector: u16,
    /// The vector was raised for the entries that are unconsumed now.
    raised: bool,
    /// The next entry raises the vector, however few there are.
    demanded: bool,
}

impl Ring {
    /// An empty ring at `base` that wants `vector` at `threshold` unconsumed entries.
    pub(crate) fn new(base: u64, order: u32, threshold: u32, vector: u16) -> Self {
        Self {
            base,
            order,
            posted: 0,
            head: 0,
            threshold,
            vector,
            raised: false,
            demanded: false,
        }
    }

    /// Number of slots.
    pub(crate) fn size(&self) -> u32 {
        1 << self.order
    }

    /// Entries that the driver has not consumed.
    pub(crate) fn used(&self) -> u32 {
        self.posted.wrapping_sub(self.head) & abi::DLR_LOG_POSTED_COUNT_MASK
    }

    /// Slots that may be written now.
    pub(crate) fn free(&self) -> u32 {
        self.size().saturating_sub(self.used())
    }

    /// Entries ever posted, modulo 2^31.
    pub(crate) fn posted(&self) -> u32 {
        self.posted & abi::DLR_LOG_POSTED_COUNT_MASK
    }

    /// MSI-X vector.
    pub(crate) fn vector(&self) -> u16 {
        self.vector
    }

    /// An injected fault: counts `n` entries that nobody writes.
    pub(crate) fn skip(&mut self, n: u32) {
        self.posted = self.posted.wrapping_add(n);
    }

    /// Address and value of the next entry; counts it. The caller has checked [`Self::free`].
    pub(crate) fn push(&mut self, entry: Entry) -> (u64, u64) {
        let slot = self.posted & (self.size() - 1);
        let phase = (self.posted >> self.order) & 1 == 0;
        self.posted = self.posted.wrapping_add(1);
        (
            self.base + u64::from(slot) * u64::from(abi::DLR_LOG_ENTRY_SIZE),
            entry.encode(phase),
        )
    }

    /// Takes the driver's consumer count over. False when it is ahead of the producer or
    /// behind what was consumed before; nothing changes then.
    pub(crate) fn set_head(&mut self, head: u32) -> bool {
        let consumed = head.wrapping_sub(self.head) & abi::DLR_LOG_POSTED_COUNT_MASK;
        if consumed > self.used() {
            return false;
        }
        self.head = self.head.wrapping_add(consumed);
        self.raised = false;
        true
    }

    /// The next entry has to raise the vector.
    pub(crate) fn demand_interrupt(&mut self) {
        self.demanded = true;
    }

    /// Whether the vector has to be raised now; remembers that it was.
    pub(crate) fn wants_interrupt(&mut self) -> bool {
        let reached = !self.raised && self.used() >= self.threshold;
        self.raised |= reached;
        std::mem::take(&mut self.demanded) || reached
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_have_the_layout_of_the_header() {
        let e = Entry::Write {
            page: 0x1234,
            run: 256,
        };
        assert_eq!(e.encode(true), 0x1234 << 12 | 255 << 4 | 1 << 1 | 1);
        assert_eq!(Entry::Sync { cookie: 5 }.encode(false), 5 << 12 | 2 << 1);
        assert_eq!(Entry::Lost.encode(true), 3 << 1 | 1);
    }

    #[test]
    fn phase_flips_each_pass_and_slots_wrap() {
        let mut r = Ring::new(0x1000, 4, 16, 1);
        for i in 0..64u32 {
            let (addr, v) = r.push(Entry::Lost);
            assert_eq!(addr, 0x1000 + u64::from(i % 16) * 8);
            assert_eq!(v & 1 == 1, (i / 16) % 2 == 0);
            assert!(r.set_head(i + 1));
        }
        assert_eq!(r.posted(), 64);
    }

    #[test]
    fn counts_survive_their_wrap() {
        let mut r = Ring::new(0, 4, 4, 0);
        r.posted = u32::MAX - 1;
        r.head = u32::MAX - 1;
        for _ in 0..5 {
            r.push(Entry::Lost);
        }
        assert_eq!((r.used(), r.free()), (5, 11));
        // A driver that counts modulo 2^31 is understood too.
        assert!(r.set_head(2));
        assert_eq!(r.used(), 1);
        assert!(!r.set_head(4), "ahead of the producer");
        assert!(!r.set_head(1), "going back");
    }

    #[test]
    fn interrupt_at_threshold_and_again_after_head() {
        let mut r = Ring::new(0, 4, 2, 0);
        r.push(Entry::Lost);
        assert!(!r.wants_interrupt());
        r.push(Entry::Lost);
        assert!(r.wants_interrupt());
        assert!(!r.wants_interrupt(), "once");
        r.push(Entry::Lost);
        assert!(r.set_head(1));
        assert!(r.wants_interrupt(), "two are left");
        assert!(r.set_head(2));
        assert!(!r.wants_interrupt());
    }
}
