// SPDX-License-Identifier: Apache-2.0 OR MIT

//! What harness and guest say to each other: one JSON object a line, each request is
//! answered by one [`Reply`].

use std::{collections::BTreeMap, net::Ipv4Addr};

use dlr_traffic::Report;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::xdp::Action;

/// Name of the virtio-serial port.
pub const PORT_NAME: &str = "dlr.guest";

/// Word of the kernel's command line, and variable of its first process: a serial line to use
/// instead of that port, as `/dev/ttyS1`.
pub const LINE: &str = "dlr_line";

/// Begins the line on the console that says that requests are taken: what a serial line brings
/// before that is lost.
pub const READY: &str = "dlr-guest: ready";

/// A request of the harness.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "cmd", rename_all = "snake_case")]
pub enum Request {
    /// Who are you? Answered with [`Hello`].
    Hello,
    /// Waits for the interfaces and gives them their addresses, in PCI order. Answered with
    /// the list of [`Nic`].
    Net {
        /// One entry for each interface.
        nics: Vec<Address>,
        /// How long to wait for them, in seconds.
        timeout_s: u64,
    },
    /// Takes an interface away from its driver and gives it back, which sets the device up anew.
    Rebind {
        /// Number of the interface, in PCI order.
        nic: usize,
    },
    /// Attaches an XDP program to an interface, or detaches it.
    Xdp {
        /// Number of the interface, in PCI order.
        nic: usize,
        /// What it does with each frame; none without.
        action: Option<Action>,
    },
    /// Sends a message to the UDP echo port of `dst` until it comes back. Answered with
    /// [`Pong`].
    Ping {
        /// Address of the peer.
        dst: Ipv4Addr,
        /// Attempts, 200 ms each.
        attempts: u32,
    },
    /// Opens the sockets that the backlog piles up in.
    BacklogOpen {
        /// First UDP port.
        port: u16,
        /// Number of consecutive ports.
        ports: u16,
        /// Receive buffer of each, in bytes as the kernel counts them (with overhead).
        rcvbuf: usize,
    },
    /// How much has piled up: [`BacklogState`].
    BacklogState,
    /// Reads and checks everything that has piled up: [`BacklogReport`]. More may come.
    BacklogVerify,
    /// Starts to receive and check datagrams on a port.
    UdpReceive {
        /// UDP port.
        port: u16,
    },
    /// Starts a stream of datagrams.
    UdpSend(Stream),
    /// Opens a TCP connection to an echo port and keeps sending messages over it.
    TcpEcho(Stream),
    /// Opens a TCP connection to a sink port and keeps sending messages over it.
    TcpSend(Stream),
    /// Ends all senders.
    Stop,
    /// Counters of all streams: [`Stats`].
    Stats,
    /// The kernel log since the last such request: a list of lines.
    KernelLog,
    /// Turns the guest off. Not answered.
    PowerOff,
}

/// Address of an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Address {
    /// IPv4 address.
    pub address: Ipv4Addr,
    /// Prefix length.
    pub prefix: u8,
}

/// A stream of messages that the guest sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stream {
    /// Number of the stream.
    pub stream: u32,
    /// Address of the peer.
    pub dst: Ipv4Addr,
    /// Port to send to.
    pub port: u16,
    /// Length of a message in bytes.
    pub size: usize,
    /// Messages a second.
    pub pps: u32,
}

/// The answer to a request.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Reply {
    /// Done; what the request asked for, or null.
    Ok {
        /// See [`Request`].
        ok: Value,
    },
    /// Not done.
    Err {
        /// Why.
        error: String,
    },
}

/// Answer to [`Request::Hello`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// Kernel release.
    pub kernel: String,
    /// Memory in bytes.
    pub memory: u64,
    /// Seconds since the guest's boot.
    pub uptime_s: u64,
}

/// An interface.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Nic {
    /// Name, as `eth0`.
    pub name: String,
    /// MAC address as text.
    pub mac: String,
    /// Driver.
    pub driver: String,
    /// Device path in sysfs.
    pub path: String,
}

/// Answer to [`Request::Ping`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pong {
    /// Attempts that were needed.
    pub attempts: u32,
    /// Round trip time of the last one in microseconds.
    pub rtt_us: u64,
}

/// Answer to [`Request::BacklogState`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BacklogState {
    /// Sockets.
    pub sockets: usize,
    /// Receive memory in use, as the kernel counts it.
    pub queued_bytes: u64,
    /// Datagrams that found no room: the test asks for more than there is.
    pub drops: u64,
}

/// Answer to [`Request::BacklogVerify`]: the memory oracle's verdict.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BacklogReport {
    /// Datagrams read by this request.
    pub messages: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Account of each stream, of all verify requests so far.
    pub streams: BTreeMap<u32, Report>,
    /// Datagrams that are no messages or have a damaged header.
    pub unknown: u64,
    /// Texts of the first few of these.
    pub faults: Vec<String>,
    /// Datagrams that found no room in a socket.
    pub drops: u64,
}

impl BacklogReport {
    /// Damaged datagrams of all streams.
    pub fn corrupt(&self) -> u64 {
        self.unknown + self.streams.values().map(|r| r.corrupt).sum::<u64>()
    }
}

/// Answer to [`Request::Stats`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stats {
    /// What was received by [`Request::UdpReceive`], by port.
    pub received: BTreeMap<u16, Received>,
    /// Senders, in the order they were started.
    pub sent: Vec<Sent>,
}

/// Account of a receiving port.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Received {
    /// By stream.
    pub streams: BTreeMap<u32, Report>,
    /// Datagrams without a good header.
    pub unknown: u64,
    /// Datagrams that found no room in the socket.
    pub drops: u64,
}

/// Account of a sender.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sent {
    /// `udp`, `tcp-echo` or `tcp`.
    pub kind: String,
    /// The stream.
    pub stream: u32,
    /// Messages sent.
    pub sent: u64,
    /// Messages that came back undamaged (`tcp-echo`).
    pub echoed: u64,
    /// Messages that came back damaged or out of turn.
    pub corrupt: u64,
    /// Longest round trip in microseconds (`tcp-echo`).
    pub longest_us: u64,
    /// Why the sender ended, if it did so by itself.
    pub error: Option<String>,
    /// Whether it still sends.
    pub running: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_survive_the_way() {
        let stream = Stream {
            stream: 1,
            dst: [10, 9, 0, 1].into(),
            port: 9,
            size: 100,
            pps: 5,
        };
        for request in [
            Request::Hello,
            Request::UdpSend(stream),
            Request::Ping {
                dst: stream.dst,
                attempts: 3,
            },
        ] {
            let text = serde_json::to_string(&request).unwrap();
            assert_eq!(serde_json::from_str::<Request>(&text).unwrap(), request);
        }
        let udp = serde_json::to_value(Request::UdpSend(stream)).unwrap();
        assert_eq!((&udp["cmd"], &udp["pps"]), (&"udp_send".into(), &5.into()));
    }

    #[test]
    fn replies_are_told_apart() {
        let ok: Reply = serde_json::from_str(r#"{"ok": null}"#).unwrap();
        assert_eq!(ok, Reply::Ok { ok: Value::Null });
        let err: Reply = serde_json::from_str(r#"{"error": "x"}"#).unwrap();
        assert_eq!(err, Reply::Err { error: "x".into() });
    }
}
