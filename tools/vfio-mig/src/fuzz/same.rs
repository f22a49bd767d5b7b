// SPDX-License-Identifier: Apache-2.0 OR MIT

//! Are two streams the same?
//!
//! A device may have a clock or a counter in its stream. So a device is saved and loaded a few times
//! first, with nothing in between: bytes that differ then say nothing later. Checksums over them
//! differ as well, and so become part of the mask by themselves.

/// Bytes that differ between streams of the same state.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mask(Vec<bool>);

impl Mask {
    /// Of streams of the same state; the first is the measure.
    pub fn of(streams: &[Vec<u8>]) -> Self {
        let Some((first, rest)) = streams.split_first() else {
            return Self::default();
        };
        let differs = |(at, byte): (usize, &u8)| rest.iter().any(|s| s.get(at) != Some(byte));
        Self(first.iter().enumerate().map(differs).collect())
    }

    /// Number of bytes that it hides.
    pub fn hidden(&self) -> usize {
        self.0.iter().filter(|hidden| **hidden).count()
    }
}

/// How two streams differ outside of the mask; `None` if they do not.
pub fn differ(one: &[u8], other: &[u8], mask: &Mask) -> Option<String> {
    if one.len() != other.len() {
        return Some(format!("{} bytes, and then {}", one.len(), other.len()));
    }
    let hidden = |at: usize| mask.0.get(at).copied().unwrap_or_default();
    let pairs = one.iter().zip(other).enumerate();
    let mut places = pairs.filter(|(at, (a, b))| a != b && !hidden(*at));
    let (at, (a, b)) = places.next()?;
    let more = places.count();
    Some(format!(
        "byte {at} is {a:#04x}, and then {b:#04x}; {more} others differ"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_changes_by_itself_is_not_compared() {
        let streams = [vec![1, 2, 3, 4], vec![1, 9, 3, 4], vec![1, 2, 3, 4]];
        let mask = Mask::of(&streams);
        assert_eq!(mask.hidden(), 1);
        assert_eq!(differ(&streams[0], &[1, 7, 3, 4], &mask), None);
        let seen = differ(&streams[0], &[1, 7, 3, 5], &mask).unwrap();
        assert!(seen.starts_with("byte 3 is 0x04"), "{seen}");
        assert!(differ(&streams[0], &[1, 2, 3], &mask).is_some());
        assert_eq!(differ(&[], &[], &Mask::of(&[])), None);
    }
}
