// SPDX-License-Identifier: Apache-2.0 OR MIT

//! Frames that the generator makes itself, and whom it knows on the segment.
//!
//! Generated messages do not go through a socket, because their fate has to be known one
//! by one: a frame is in the guest's memory, or it is lost.

use std::{collections::HashMap, net::Ipv4Addr};

use dlr_traffic::SOURCE_PORT;
use smoltcp::{
    phy::ChecksumCapabilities,
    wire::{
        ArpOperation, ArpPacket, ArpRepr, EthernetAddress, EthernetFrame, EthernetProtocol,
        EthernetRepr, IpAddress, IpProtocol, Ipv4Packet, Ipv4Repr, UdpPacket, UdpRepr,
    },
};

use crate::{
    config::{Cidr, PeerConfig},
    switch::{addresses, is_group, Mac},
};

/// Longest UDP payload that an IPv4 packet holds.
pub(super) const MAX_PAYLOAD: usize = 65_507;

const ETHERNET: usize = 14;
const IPV4: usize = 20;
const UDP: usize = 8;
const ARP: usize = 28;

/// Most addresses that are remembered.
const TABLE: usize = 256;

/// The peer's own addresses, and the Ethernet addresses of the others.
#[derive(Debug)]
pub(super) struct Neighbours {
    mac: Mac,
    own: Vec<Cidr>,
    known: HashMap<Ipv4Addr, Mac>,
}

impl Neighbours {
    /// Knows nobody.
    pub(super) fn new(config: &PeerConfig) -> Self {
        Self {
            mac: config.mac,
            own: config.addresses.clone(),
            known: HashMap::new(),
        }
    }

    /// Learns from the sender addresses of an ARP or IPv4 frame.
    pub(super) fn learn(&mut self, frame: &[u8]) {
        let Some((_, mac)) = addresses(frame) else {
            return;
        };
        let at = match frame.get(12..14) {
            Some([0x08, 0x06]) => ETHERNET + 14,
            Some([0x08, 0x00]) => ETHERNET + 12,
            _ => return,
        };
        let Some(ip) = frame
            .get(at..at + 4)
            .and_then(|b| <[u8; 4]>::try_from(b).ok())
        else {
            return;
        };
        let ip = Ipv4Addr::from(ip);
        if is_group(&mac) || self.route(ip).is_none() {
            return;
        }
        if self.known.len() >= TABLE && !self.known.contains_key(&ip) {
            self.known.clear();
        }
        self.known.insert(ip, mac);
    }

    /// The peer's address in the network of `ip`.
    pub(super) fn route(&self, ip: Ipv4Addr) -> Option<Ipv4Addr> {
        let same = |c: &&Cidr| {
            let host_bits = 32 - u32::from(c.prefix.min(32));
            let mask = u32::MAX.checked_shl(host_bits).unwrap_or(0);
            (u32::from(c.address) ^ u32::from(ip)) & mask == 0
        };
        self.own.iter().find(same).map(|c| c.address)
    }

    /// A frame with `payload` from UDP port 19 for `dst`:`port`, checksums filled in; `None`
    /// while `dst` is not known.
    pub(super) fn udp(&self, dst: Ipv4Addr, port: u16, payload: &[u8]) -> Option<Vec<u8>> {
        let (src, mac) = (self.route(dst)?, self.known.get(&dst)?);
        if payload.len() > MAX_PAYLOAD {
            return None;
        }
        let mut frame = vec![0; ETHERNET + IPV4 + UDP + payload.len()];
        self.ethernet(EthernetAddress(*mac), EthernetProtocol::Ipv4, &mut frame);
        let caps = ChecksumCapabilities::default();
        let ip = Ipv4Repr {
            src_addr: src,
            dst_addr: dst,
            next_header: IpProtocol::Udp,
            payload_len: UDP + payload.len(),
            hop_limit: 64,
        };
        ip.emit(
            &mut Ipv4Packet::new_unchecked(&mut frame[ETHERNET..]),
            &caps,
        );
        let udp = UdpRepr {
            src_port: SOURCE_PORT,
            dst_port: port,
        };
        udp.emit(
            &mut UdpPacket::new_unchecked(&mut frame[ETHERNET + IPV4..]),
            &IpAddress::Ipv4(src),
            &IpAddress::Ipv4(dst),
            payload.len(),
            |to| to.copy_from_slice(payload),
            &caps,
        );
        Some(frame)
    }

    /// A broadcast that asks who has `dst`; `None` outside the peer's networks.
    pub(super) fn who_has(&self, dst: Ipv4Addr) -> Option<Vec<u8>> {
        let src = self.route(dst)?;
        let mut frame = vec![0; ETHERNET + ARP];
        self.ethernet(
            EthernetAddress::BROADCAST,
            EthernetProtocol::Arp,
            &mut frame,
        );
        let arp = ArpRepr::EthernetIpv4 {
            operation: ArpOperation::Request,
            source_hardware_addr: EthernetAddress(self.mac),
            source_protocol_addr: src,
            target_hardware_addr: EthernetAddress([0; 6]),
            target_protocol_addr: dst,
        };
        arp.emit(&mut ArpPacket::new_unchecked(&mut frame[ETHERNET..]));
        Some(frame)
    }

    /// Whether a frame can be sent to `dst`.
    pub(super) fn knows(&self, dst: Ipv4Addr) -> bool {
        self.known.contains_key(&dst)
    }

    fn ethernet(&self, dst_addr: EthernetAddress, ethertype: EthernetProtocol, frame: &mut [u8]) {
        let repr = EthernetRepr {
            src_addr: EthernetAddress(self.mac),
            dst_addr,
            ethertype,
        };
        repr.emit(&mut EthernetFrame::new_unchecked(frame));
    }
}

#[cfg(test)]
pub(super) use tests::neighbours as known_guest;

#[cfg(test)]
mod tests {
    use super::*;

    const GUEST: Ipv4Addr = Ipv4Addr::new(10, 9, 1, 2);

    /// A peer that has heard of the guest.
    pub(in crate::peer) fn neighbours() -> Neighbours {
        let mut neighbours = Neighbours::new(&PeerConfig::default());
        let mut arp = neighbours.who_has(GUEST).unwrap();
        arp[6..12].copy_from_slice(&[2, 0, 0, 0, 0, 5]);
        arp[28..32].copy_from_slice(&GUEST.octets());
        neighbours.learn(&arp);
        neighbours
    }

    #[test]
    fn a_generated_frame_is_right_to_the_last_checksum() {
        let payload = dlr_traffic::build(1, 2, 3001).unwrap();
        let frame = neighbours().udp(GUEST, 5000, &payload).unwrap();
        assert_eq!(&frame[..6], &[2, 0, 0, 0, 0, 5]);
        let ip = Ipv4Packet::new_checked(&frame[ETHERNET..]).unwrap();
        assert!(ip.verify_checksum());
        let udp = UdpPacket::new_checked(ip.payload()).unwrap();
        assert!(udp.verify_checksum(&ip.src_addr().into(), &ip.dst_addr().into()));
        assert_eq!((udp.dst_port(), udp.payload()), (5000, payload.as_slice()));
        assert_eq!(ip.src_addr(), Ipv4Addr::new(10, 9, 1, 1));
    }

    #[test]
    fn strangers_are_not_learned() {
        let mut neighbours = Neighbours::new(&PeerConfig::default());
        let mut frame = vec![0; 60];
        frame[12] = 8;
        frame[26..30].copy_from_slice(&[192, 168, 0, 1]);
        neighbours.learn(&frame);
        assert!(!neighbours.knows([192, 168, 0, 1].into()));
        assert!(neighbours.udp(GUEST, 1, &[]).is_none());
        assert!(neighbours.who_has([192, 168, 0, 1].into()).is_none());
    }
}
