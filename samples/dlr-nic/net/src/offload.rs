// SPDX-License-Identifier: Apache-2.0 OR MIT

//! Checksums: those that the guest left to us (`VIRTIO_NET_F_CSUM`), and those that it need not verify
//! (`VIRTIO_NET_F_GUEST_CSUM`).

use etherparse::{NetSlice, SlicedPacket, TransportSlice};

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

/// The frame carries a whole TCP segment or UDP datagram over IP with a right checksum: only of such a
/// frame may a guest be told that its data are valid (virtio 1.3, 5.1.6.4.1, a MUST).
pub(crate) fn verified(frame: &[u8]) -> bool {
    let Ok(packet) = SlicedPacket::from_ethernet(frame) else {
        return false;
    };
    let (protocol, segment) = match &packet.transport {
        // Zero means that the sender computed none.
        Some(TransportSlice::Udp(udp)) if udp.checksum() != 0 => (17, udp.slice()),
        Some(TransportSlice::Tcp(tcp)) => (6, tcp.slice()),
        _ => return false,
    };
    let mut pseudo = match &packet.net {
        Some(NetSlice::Ipv4(ip)) => [ip.header().source(), ip.header().destination()].concat(),
        Some(NetSlice::Ipv6(ip)) => [ip.header().source(), ip.header().destination()].concat(),
        _ => return false,
    };
    let Ok(length) = u32::try_from(segment.len()) else {
        return false;
    };
    // IPv4's has the length in 16 bits and one byte of protocol: the same sum.
    pseudo.extend(length.to_be_bytes());
    pseudo.extend([0, 0, 0, protocol]);
    let sum = u32::from(fold(&pseudo)) + u32::from(fold(segment));
    (sum & 0xffff) + (sum >> 16) == 0xffff
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
    use etherparse::{PacketBuilder, VlanId};

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

    /// Frames that carry 100 bytes, made by a library: UDP and TCP over IPv4 and IPv6, and one in a
    /// VLAN.
    fn frames() -> Vec<Vec<u8>> {
        let ethernet = || PacketBuilder::ethernet2([2; 6], [4; 6]);
        let v4 = || ethernet().ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64);
        let v6 = || ethernet().ipv6([1; 16], [2; 16], 64);
        let vlan = ethernet().single_vlan(VlanId::try_new(5).unwrap());
        let payload: Vec<u8> = (0..100).collect();
        let mut frames = vec![Vec::new(); 5];
        v4().udp(7, 9).write(&mut frames[0], &payload).unwrap();
        v6().udp(7, 9).write(&mut frames[1], &payload).unwrap();
        v4().tcp(7, 9, 1, 2)
            .write(&mut frames[2], &payload)
            .unwrap();
        v6().tcp(7, 9, 1, 2)
            .write(&mut frames[3], &payload)
            .unwrap();
        let vlan = vlan.ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64).udp(7, 9);
        vlan.write(&mut frames[4], &payload).unwrap();
        frames
    }

    #[test]
    fn only_right_checksums_are_verified() {
        for frame in frames() {
            assert!(verified(&frame));
            // What pads a short frame belongs to no datagram.
            assert!(verified(&[&frame[..], &[1, 2, 3]].concat()));
            let mut damaged = frame.clone();
            *damaged.last_mut().unwrap() ^= 1;
            assert!(!verified(&damaged));
            assert!(!verified(&frame[..frame.len() - 1]));
        }
        let mut none = frames().remove(0);
        none[40..42].fill(0);
        assert!(!verified(&none));
        let mut fragment = frames().remove(0);
        fragment[20] = 0x20;
        assert!(!verified(&fragment));
        assert!(!verified(&[]) && !verified(&[0xff; 60]));
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
