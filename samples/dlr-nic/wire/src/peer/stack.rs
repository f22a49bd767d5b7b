// SPDX-License-Identifier: Apache-2.0 OR MIT

//! The peer's IP stack: smoltcp with the echo services and the sink on top.

use std::{
    collections::HashMap,
    net::Ipv4Addr,
    time::{Duration, Instant},
};

use dlr_traffic::{Framer, ECHO_PORT, SINK_PORT};
use serde_json::{json, Value};
use smoltcp::{
    iface::{Config, Interface, SocketHandle, SocketSet},
    phy::{self, Device, DeviceCapabilities, Medium},
    socket::{tcp, udp},
    time::Instant as StackInstant,
    wire::{EthernetAddress, HardwareAddress, IpAddress, IpCidr},
};

use super::{
    lanes::Lanes,
    sink::{Sinks, Via},
};
use crate::{backend::Deliver, config::PeerConfig};

/// Longest frame that the stack sends: jumbo frames, as the guest may have them.
const MTU: usize = 9014;
/// TCP connections at a time, for each service.
const CONNECTIONS: usize = 8;
/// Buffer of a TCP connection, each way.
const TCP_BUFFER: usize = 64 * 1024;
/// Buffer of a UDP service, each way: the longest datagram and some.
const UDP_BUFFER: usize = 256 * 1024;

/// The stack with its sockets.
pub(super) struct Stack {
    start: Instant,
    interface: Interface,
    sockets: SocketSet<'static>,
    queue: Queue,
    udp_echo: SocketHandle,
    udp_sink: SocketHandle,
    tcp_echo: Vec<SocketHandle>,
    tcp_sink: Vec<SocketHandle>,
    framers: HashMap<SocketHandle, (Ipv4Addr, Framer)>,
    sinks: Sinks,
    counters: Counters,
}

#[derive(Debug, Default)]
struct Counters {
    received: u64,
    lost: u64,
    connections: u64,
    resets: u64,
}

impl std::fmt::Debug for Stack {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Stack")
            .field("counters", &self.counters)
            .finish_non_exhaustive()
    }
}

impl Stack {
    /// A stack with the addresses of `config`.
    pub(super) fn new(config: &PeerConfig, now: Instant) -> Self {
        let mut queue = Queue::default();
        let hardware = HardwareAddress::Ethernet(EthernetAddress(config.mac));
        let mut interface = Interface::new(Config::new(hardware), &mut queue, StackInstant::ZERO);
        interface.update_ip_addrs(|list| {
            for cidr in &config.addresses {
                // The configuration's limit is the stack's.
                let _ = list.push(IpCidr::new(IpAddress::Ipv4(cidr.address), cidr.prefix));
            }
        });
        let mut sockets = SocketSet::new(vec![]);
        let udp_echo = sockets.add(udp_socket(ECHO_PORT));
        let udp_sink = sockets.add(udp_socket(SINK_PORT));
        let tcp_echo = (0..CONNECTIONS)
            .map(|_| sockets.add(tcp_socket()))
            .collect();
        let tcp_sink = (0..CONNECTIONS)
            .map(|_| sockets.add(tcp_socket()))
            .collect();
        Self {
            start: now,
            interface,
            sockets,
            queue,
            udp_echo,
            udp_sink,
            tcp_echo,
            tcp_sink,
            framers: HashMap::new(),
            sinks: Sinks::default(),
            counters: Counters::default(),
        }
    }

    /// Takes a frame from the segment.
    pub(super) fn frame(&mut self, frame: &[u8], now: Instant) {
        self.counters.received += 1;
        self.queue.inbound = Some(frame.to_vec());
        self.turn(now);
    }

    /// Runs the timers and delivers what the stack has to send.
    pub(super) fn poll(&mut self, now: Instant, deliver: &mut Deliver<'_>) -> Option<Duration> {
        self.turn(now);
        let retry = self.queue.outbound.deliver(now, deliver);
        let delay = self
            .interface
            .poll_delay(self.stack_time(now), &self.sockets)
            .map(|d| Duration::from_micros(d.total_micros()));
        match (retry, delay) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        }
    }

    /// What the sink has seen.
    pub(super) fn sinks(&self) -> Value {
        self.sinks.stats()
    }

    /// Counters of the stack.
    pub(super) fn stats(&self) -> Value {
        let open = self.tcp_echo.iter().chain(&self.tcp_sink);
        let open = open
            .filter(|h| self.sockets.get::<tcp::Socket>(**h).may_send())
            .count();
        json!({"received": self.counters.received, "sent": self.queue.outbound.sent,
            "lost": self.counters.lost + self.queue.outbound.lost, "tcp_connections": self.counters.connections,
            "tcp_open": open, "tcp_resets": self.counters.resets})
    }

    /// Forgets what the sink has seen. Connections stay.
    pub(super) fn forget(&mut self) {
        self.sinks = Sinks::default();
    }

    fn stack_time(&self, now: Instant) -> StackInstant {
        let micros = now.saturating_duration_since(self.start).as_micros();
        StackInstant::from_micros(i64::try_from(micros).unwrap_or(i64::MAX))
    }

    fn turn(&mut self, now: Instant) {
        let time = self.stack_time(now);
        self.interface
            .poll(time, &mut self.queue, &mut self.sockets);
        self.serve(now);
        // Send at once what the services have said, not with the next frame.
        self.interface
            .poll(time, &mut self.queue, &mut self.sockets);
    }

    fn serve(&mut self, now: Instant) {
        let echo = self.sockets.get_mut::<udp::Socket>(self.udp_echo);
        while echo.can_send() {
            let Ok((data, from)) = echo.recv() else { break };
            let data = data.to_vec();
            // With the address it was sent to: the stack would answer with its first one.
            if echo.send_slice(&data, from).is_err() {
                self.counters.lost += 1;
            }
        }
        let sink = self.sockets.get_mut::<udp::Socket>(self.udp_sink);
        while let Ok((data, from)) = sink.recv() {
            let IpAddress::Ipv4(src) = from.endpoint.addr;
            self.sinks
                .enter(Via::Udp, src, &dlr_traffic::verify(data), now);
        }
        for handle in &self.tcp_echo {
            let socket = self.sockets.get_mut::<tcp::Socket>(*handle);
            if listening(socket, ECHO_PORT) {
                continue;
            }
            echo_tcp(socket);
        }
        for handle in &self.tcp_sink {
            let socket = self.sockets.get_mut::<tcp::Socket>(*handle);
            if listening(socket, SINK_PORT) {
                self.framers.remove(handle);
                continue;
            }
            let Some(remote) = socket.remote_endpoint() else {
                continue;
            };
            let IpAddress::Ipv4(src) = remote.addr;
            let (_, framer) = self.framers.entry(*handle).or_insert_with(|| {
                self.counters.connections += 1;
                (src, Framer::default())
            });
            let sinks = &mut self.sinks;
            while socket.can_recv() {
                let result = socket.recv(|data| {
                    (
                        data.len(),
                        framer.push(data, |m| sinks.enter(Via::Tcp, src, &m, now)),
                    )
                });
                if let Ok(Err(error)) = result {
                    sinks.unknown(&error.to_string());
                    self.counters.resets += 1;
                    socket.abort();
                }
            }
            if !socket.may_recv() {
                socket.close();
            }
        }
    }
}

/// Sends back what came; closes after the other side has.
fn echo_tcp(socket: &mut tcp::Socket<'_>) {
    let room = socket.send_capacity() - socket.send_queue();
    if room > 0 && socket.can_recv() {
        let data = socket.recv(|data| {
            let take = data.len().min(room);
            (take, data[..take].to_vec())
        });
        if let Ok(data) = data {
            // Fits: its length is at most the room that there is.
            let _ = socket.send_slice(&data);
        }
    }
    if !socket.may_recv() && !socket.can_recv() && socket.send_queue() == 0 {
        socket.close();
    }
}

/// Whether `socket` waits for a connection; a closed one is made to.
fn listening(socket: &mut tcp::Socket<'_>, port: u16) -> bool {
    match socket.state() {
        tcp::State::Closed => {
            // Fails for port 0 and an open socket only.
            let _ = socket.listen(port);
            true
        }
        tcp::State::Listen | tcp::State::SynReceived => true,
        _ => false,
    }
}

fn udp_socket(port: u16) -> udp::Socket<'static> {
    let buffer =
        || udp::PacketBuffer::new(vec![udp::PacketMetadata::EMPTY; 64], vec![0; UDP_BUFFER]);
    let mut socket = udp::Socket::new(buffer(), buffer());
    // Fails for port 0 and an open socket only.
    let _ = socket.bind(port);
    socket
}

fn tcp_socket() -> tcp::Socket<'static> {
    let buffer = || tcp::SocketBuffer::new(vec![0; TCP_BUFFER]);
    let mut socket = tcp::Socket::new(buffer(), buffer());
    socket.set_nagle_enabled(false);
    socket.set_ack_delay(None);
    socket
}

/// The stack's network device: one frame in, a queue of frames out.
#[derive(Debug, Default)]
struct Queue {
    inbound: Option<Vec<u8>>,
    outbound: Lanes,
}

impl Device for Queue {
    type RxToken<'a> = Rx;
    type TxToken<'a> = Tx<'a>;

    fn capabilities(&self) -> DeviceCapabilities {
        let mut caps = DeviceCapabilities::default();
        caps.medium = Medium::Ethernet;
        caps.max_transmission_unit = MTU;
        caps
    }

    fn receive(&mut self, _timestamp: StackInstant) -> Option<(Rx, Tx<'_>)> {
        let frame = self.inbound.take()?;
        Some((Rx(frame), Tx(self)))
    }

    fn transmit(&mut self, _timestamp: StackInstant) -> Option<Tx<'_>> {
        // Let the stack wait with what it has instead of losing it.
        self.outbound.has_room().then_some(Tx(self))
    }
}

struct Rx(Vec<u8>);

impl phy::RxToken for Rx {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(&self.0)
    }
}

struct Tx<'a>(&'a mut Queue);

impl phy::TxToken for Tx<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        let mut frame = vec![0; len];
        let result = f(&mut frame);
        self.0.outbound.push(frame, Instant::now());
        result
    }
}
