// SPDX-License-Identifier: Apache-2.0 OR MIT

//! Checksums that the guest left to us (`VIRTIO_NET_F_CSUM`).

use crate::regs::{HDR_F_NEEDS_CSUM, HDR_GSO_NONE, HDR_LEN};

/// Does what the header before `frame` asks for. `false` when it asks for what was not
/// negotiated or cannot be done: the frame is dropped then.
pub(crate) fn complete(header: &[u8; HDR_LEN], frame: &mut [u8], csum: bool) -> bool {
    let [flags, gso, _, _, _, _, start0, start1, offset0, offset1, _, _] = *header;
    if gso != HDR_GSO_NONE {
        return false;
    }
    if flags & HDR_F_NEEDS_CSUM == 0 {
        return true;
    }
    let start = usize::from(u16::from_le_bytes([start0, start1]));
    let offset = usize::from(u16::from_le_bytes([offset0, offset1]));
    if !csum || start + offset + 2 > frame.len() {
        return false;
    }
    // The field holds the sum of the pseudo header.
    let sum = match !fold(&frame[start..]) {
        // Zero means "none" in UDP, and the two zeros of ones' complement are equal.
        0 => 0xffff,
        sum => sum,
    };
    frame[start + offset..][..2].copy_from_slice(&sum.to_be_bytes());
    true
}

/// Ones' complement sum of 16-bit words (RFC 1071).
fn fold(data: &[u8]) -> u16 {
    let mut sum: u64 = data
        .chunks(2)
        .map(|word| {
            let low = word.get(1).copied().unwrap_or(0);
            u64::from(u16::from_be_bytes([word[0], low]))
        })
        .sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(flags: u8, start: u16, offset: u16) -> [u8; HDR_LEN] {
        let mut header = [0; HDR_LEN];
        header[0] = flags;
        header[6..8].copy_from_slice(&start.to_le_bytes());
        header[8..10].copy_from_slice(&offset.to_le_bytes());
        header
    }

    #[test]
    fn sum_over_field_comes_out_right() {
        for len in [40usize, 41, 1500] {
            let mut frame: Vec<u8> = (0..len).map(|i| (i * 7) as u8).collect();
            let pseudo = [0x12, 0x34];
            frame[26..28].copy_from_slice(&pseudo);
            assert!(complete(&header(1, 20, 6), &mut frame, true));
            // The receiver's check: words and pseudo header sum up to all ones.
            let rest: u32 = u32::from(fold(&frame[20..])) + u32::from(u16::from_be_bytes(pseudo));
            assert_eq!((rest & 0xffff) + (rest >> 16), 0xffff);
        }
    }

    #[test]
    fn refuses_what_was_not_offered() {
        let mut frame = [0; 60];
        assert!(complete(&header(0, 0, 0), &mut frame, false));
        assert!(!complete(&header(1, 34, 16), &mut frame, false));
        assert!(!complete(&header(1, 34, 25), &mut frame, true));
        assert!(!complete(&header(1, u16::MAX, u16::MAX), &mut frame, true));
        let mut gso = header(0, 0, 0);
        gso[1] = 1;
        assert!(!complete(&gso, &mut frame, true));
        assert_eq!(frame, [0; 60]);
    }
}
