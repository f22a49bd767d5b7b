// SPDX-License-Identifier: Apache-2.0 OR MIT

//! What a DMA write is for: only a sabotaged log makes a difference between them.

use std::cell::Cell;

thread_local! {
    static NOW: Cell<Purpose> = const { Cell::new(Purpose::Data) };
}

/// What the DMA writes of this thread are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Frames, and all that is nothing else.
    Data,
    /// Used rings.
    UsedRing,
    /// Answers of the control queue.
    Control,
    /// The wish for a doorbell, or for none.
    Event,
}

/// Ends what [`Purpose::begin`] began.
#[derive(Debug)]
pub struct PurposeGuard(Purpose);

impl Purpose {
    /// Until the guard is dropped the writes of this thread are for this.
    #[must_use]
    pub fn begin(self) -> PurposeGuard {
        PurposeGuard(NOW.replace(self))
    }

    /// What the writes of this thread are for now.
    pub fn now() -> Self {
        NOW.get()
    }
}

impl Drop for PurposeGuard {
    fn drop(&mut self) {
        NOW.set(self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guards_nest() {
        assert_eq!(Purpose::now(), Purpose::Data);
        let outer = Purpose::Control.begin();
        {
            let _inner = Purpose::UsedRing.begin();
            assert_eq!(Purpose::now(), Purpose::UsedRing);
        }
        assert_eq!(Purpose::now(), Purpose::Control);
        drop(outer);
        assert_eq!(Purpose::now(), Purpose::Data);
    }
}
