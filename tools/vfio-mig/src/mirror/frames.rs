// SPDX-License-Identifier: Apache-2.0 OR MIT

//! Ethernet frames of the test traffic: ARP and UDP echo with verifiable messages.

use std::net::Ipv4Addr;

use anyhow::{Context, Result};
use dlr_traffic::{Fault, Header, ECHO_PORT};
use etherparse::{
    ArpEthIpv4Packet, ArpOperation, NetSlice, PacketBuilder, SlicedPacket, TransportSlice,
};

/// Our UDP port.
const PORT: u16 = 20_019;
/// Bytes of the longest message that fits into a jumbo frame.
pub const LONGEST: usize = 8900;

/// Who talks to whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Addresses {
    /// Our MAC: the function's.
    pub mac: [u8; 6],
    /// Our address.
    pub ip: Ipv4Addr,
    /// The peer's address.
    pub peer_ip: Ipv4Addr,
    /// The peer's MAC, once it is known.
    pub peer_mac: Option<[u8; 6]>,
}

/// What a received frame is.
#[derive(Debug, PartialEq, Eq)]
pub enum Received {
    /// An echo of ours, checked byte for byte.
    Echo(Result<Header, Fault>),
    /// The peer says where it is.
    PeerIs([u8; 6]),
    /// Somebody asks where we are: answer with [`Addresses::arp_reply`].
    WhereAreYou([u8; 6], Ipv4Addr),
    /// Not for us.
    Other,
    /// No frame at all, for example a page of zeros.
    Damaged,
}

impl Addresses {
    fn arp(
        &self,
        operation: ArpOperation,
        to: [u8; 6],
        target: ([u8; 6], Ipv4Addr),
    ) -> Result<Vec<u8>> {
        let packet = ArpEthIpv4Packet {
            operation,
            sender_mac: self.mac,
            sender_ipv4: self.ip.octets(),
            target_mac: target.0,
            target_ipv4: target.1.octets(),
        };
        let mut frame = Vec::new();
        PacketBuilder::ethernet2(self.mac, to)
            .arp(packet.into())
            .write(&mut frame)
            .context("building an ARP packet")?;
        Ok(frame)
    }

    /// Asks where the peer is.
    ///
    /// # Errors
    ///
    /// None in practice.
    pub fn arp_request(&self) -> Result<Vec<u8>> {
        self.arp(ArpOperation::REQUEST, [0xff; 6], ([0; 6], self.peer_ip))
    }

    /// Says to `mac`, `ip` where we are.
    ///
    /// # Errors
    ///
    /// None in practice.
    pub fn arp_reply(&self, mac: [u8; 6], ip: Ipv4Addr) -> Result<Vec<u8>> {
        self.arp(ArpOperation::REPLY, mac, (mac, ip))
    }

    /// An echo request with message `seq` of `stream`, `len` bytes long.
    ///
    /// # Errors
    ///
    /// The peer is not known yet, or the message too long.
    pub fn echo_request(&self, stream: u32, seq: u64, len: usize) -> Result<Vec<u8>> {
        let peer = self.peer_mac.context("the peer is not known yet")?;
        let message = dlr_traffic::build(stream, seq, len)?;
        let builder = PacketBuilder::ethernet2(self.mac, peer)
            .ipv4(self.ip.octets(), self.peer_ip.octets(), 64)
            .udp(PORT, ECHO_PORT);
        let mut frame = Vec::with_capacity(builder.size(len));
        builder
            .write(&mut frame, &message)
            .context("building a UDP packet")?;
        Ok(frame)
    }

    /// Says what `frame` is.
    pub fn parse(&self, frame: &[u8]) -> Received {
        let Ok(packet) = SlicedPacket::from_ethernet(frame) else {
            return Received::Damaged;
        };
        match (packet.net, packet.transport) {
            (Some(NetSlice::Arp(arp)), _) => {
                let Ok(arp) = arp.to_packet().try_eth_ipv4() else {
                    return Received::Other;
                };
                let sender = Ipv4Addr::from(arp.sender_ipv4);
                if sender == self.peer_ip && arp.operation == ArpOperation::REPLY {
                    Received::PeerIs(arp.sender_mac)
                } else if Ipv4Addr::from(arp.target_ipv4) == self.ip {
                    Received::WhereAreYou(arp.sender_mac, sender)
                } else {
                    Received::Other
                }
            }
            (Some(NetSlice::Ipv4(_)), Some(TransportSlice::Udp(udp)))
                if udp.source_port() == ECHO_PORT && udp.destination_port() == PORT =>
            {
                Received::Echo(dlr_traffic::verify(udp.payload()))
            }
            (None, _) if frame.iter().all(|&byte| byte == 0) => Received::Damaged,
            _ => Received::Other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const US: Addresses = Addresses {
        mac: [2, 0, 0, 0, 0, 1],
        ip: Ipv4Addr::new(10, 9, 0, 2),
        peer_ip: Ipv4Addr::new(10, 9, 0, 1),
        peer_mac: Some([2, 0, 0, 0, 0, 9]),
    };
    const PEER: Addresses = Addresses {
        mac: [2, 0, 0, 0, 0, 9],
        ip: US.peer_ip,
        peer_ip: US.ip,
        peer_mac: Some(US.mac),
    };

    /// The echo of a request: ports, addresses and MACs the other way round.
    fn echo(request: &[u8]) -> Vec<u8> {
        let packet = SlicedPacket::from_ethernet(request).expect("a packet");
        let Some(TransportSlice::Udp(udp)) = packet.transport else {
            panic!("no UDP");
        };
        let mut frame = Vec::new();
        PacketBuilder::ethernet2(PEER.mac, US.mac)
            .ipv4(PEER.ip.octets(), US.ip.octets(), 64)
            .udp(udp.destination_port(), udp.source_port())
            .write(&mut frame, udp.payload())
            .expect("a frame");
        frame
    }

    #[test]
    fn echoes_are_checked() {
        let request = US.echo_request(3, 17, LONGEST).expect("a frame");
        assert!(request.len() <= 9014);
        let mut frame = echo(&request);
        let Received::Echo(Ok(header)) = US.parse(&frame) else {
            panic!("no good echo");
        };
        assert_eq!((header.stream, header.seq), (3, 17));
        frame[5000] ^= 1;
        assert!(matches!(US.parse(&frame), Received::Echo(Err(_))));
        // A request, for example our own from the wire, is no answer.
        assert_eq!(US.parse(&request), Received::Other);
    }

    #[test]
    fn arp_both_ways() {
        let request = US.arp_request().expect("a frame");
        assert_eq!(PEER.parse(&request), Received::WhereAreYou(US.mac, US.ip));
        let reply = PEER.arp_reply(US.mac, US.ip).expect("a frame");
        assert_eq!(US.parse(&reply), Received::PeerIs(PEER.mac));
    }

    #[test]
    fn nonsense() {
        assert_eq!(US.parse(&[0; 60]), Received::Damaged);
        assert_eq!(US.parse(&[]), Received::Damaged);
        let unknown = Addresses {
            peer_mac: None,
            ..US
        };
        assert!(unknown.echo_request(0, 0, 100).is_err());
    }
}
