// SPDX-License-Identifier: Apache-2.0 OR MIT

//! The size of the queues.

use std::{fmt, str::FromStr};

/// Number of entries that each queue of a function offers to its driver. A driver may choose fewer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueSize(u16);

/// A number of entries that no queue has.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SizeError {
    /// These words are no number, or a number that no queue can have.
    #[error("{0} is not a number of entries: allowed are the powers of two from 1 to {MOST}")]
    NoNumber(String),
    /// Slots of a split ring are the index modulo its size.
    #[error("{0} is not a power of two: allowed are the powers of two from 1 to {MOST}")]
    NoPowerOfTwo(u16),
    /// The bound keeps the time short for which a guest may hold the gate.
    #[error("{0} is too large: allowed are the powers of two from 1 to {MOST}")]
    TooLarge(u16),
}

/// Largest number of entries.
const MOST: u16 = 1024;

impl QueueSize {
    /// Number of entries.
    pub(crate) fn entries(self) -> u16 {
        self.0
    }

    /// Number of descriptors, twice that of a queue, after which the function takes no further
    /// chain under one hold of the gate.
    pub(crate) fn max_pieces(self) -> usize {
        2 * usize::from(self.0)
    }

    /// The id of all functions that take each other's state (`dlr_identify_fn.compat`). A function
    /// cannot take a queue that is larger than its own, so each size has an id of its own; that of
    /// the default size is the one that the NIC had before the size could be chosen.
    pub fn compat(self) -> [u8; 16] {
        if self == Self::default() {
            return *b"dlr-nic/virtio1\0";
        }
        let mut compat = [0; 16];
        let text = format!("dlr-nic/v1q{}", self.0);
        for (to, from) in compat.iter_mut().zip(text.bytes()) {
            *to = from;
        }
        compat
    }
}

impl Default for QueueSize {
    fn default() -> Self {
        Self(256)
    }
}

impl TryFrom<u16> for QueueSize {
    type Error = SizeError;

    fn try_from(entries: u16) -> Result<Self, SizeError> {
        if !entries.is_power_of_two() {
            Err(SizeError::NoPowerOfTwo(entries))
        } else if entries > MOST {
            Err(SizeError::TooLarge(entries))
        } else {
            Ok(Self(entries))
        }
    }
}

impl FromStr for QueueSize {
    type Err = SizeError;

    fn from_str(text: &str) -> Result<Self, SizeError> {
        let entries: u16 = text
            .parse()
            .map_err(|_| SizeError::NoNumber(text.to_owned()))?;
        entries.try_into()
    }
}

impl fmt::Display for QueueSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_powers_of_two_up_to_a_bound() {
        assert_eq!(QueueSize::default().to_string(), "256");
        for size in [1, 2, 256, 512, 1024] {
            let parsed: QueueSize = size.to_string().parse().unwrap();
            assert_eq!(
                (parsed.entries(), parsed.max_pieces()),
                (size, 2 * size as usize)
            );
        }
        let refused = |text: &str| text.parse::<QueueSize>().unwrap_err().to_string();
        let allowed = "allowed are the powers of two from 1 to 1024";
        for (text, what) in [
            ("0", "is not a power of two"),
            ("1000", "is not a power of two"),
            ("2048", "is too large"),
            ("65536", "is not a number of entries"),
            ("-1", "is not a number of entries"),
            ("1k", "is not a number of entries"),
        ] {
            assert_eq!(refused(text), format!("{text} {what}: {allowed}"));
        }
    }

    /// Streams that older NICs have written stay loadable.
    #[test]
    fn each_size_has_a_compatibility_id_of_its_own() {
        let compat = |size: u16| QueueSize::try_from(size).unwrap().compat();
        assert_eq!(QueueSize::default().compat(), *b"dlr-nic/virtio1\0");
        assert_eq!(compat(1024), *b"dlr-nic/v1q1024\0");
        let ids: std::collections::BTreeSet<_> = (0..=10).map(|n| compat(1 << n)).collect();
        assert_eq!(ids.len(), 11);
    }
}
