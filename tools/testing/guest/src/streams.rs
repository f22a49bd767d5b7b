// SPDX-License-Identifier: Apache-2.0 OR MIT

//! Streams that run through a migration: UDP both ways, TCP with an echo.

use std::{
    collections::BTreeMap,
    io::{Read, Write},
    net::{SocketAddrV4, TcpStream, UdpSocket},
    sync::{
        atomic::{AtomicBool, Ordering},
        Arc, Mutex, MutexGuard, PoisonError,
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{bail, Context, Result};
use dlr_traffic::{Fault, Tracker, ECHO_PORT};

use crate::{
    backlog::open_socket,
    net,
    protocol::{Pong, Received, Sent, Stats, Stream},
};

/// Receive buffer of a receiving port: what comes while the guest is busy.
const RCVBUF: usize = 4 << 20;
/// How long a TCP connection may take to come about: less than the test waits for the answer.
const CONNECT: Duration = Duration::from_secs(45);
/// A TCP connection that has been silent for so long is dead.
const TCP_DEADLINE: Duration = Duration::from_secs(60);
/// A sender that fell behind (its machine was stopped) makes up for so much time.
const CATCH_UP: Duration = Duration::from_millis(50);

/// All streams of the guest.
#[derive(Debug, Default)]
pub struct Streams {
    receivers: Vec<(u16, Arc<Mutex<Receiver>>)>,
    senders: Vec<Arc<Mutex<Sent>>>,
    stop: Arc<AtomicBool>,
}

#[derive(Debug, Default)]
struct Receiver {
    trackers: BTreeMap<u32, Tracker>,
    unknown: u64,
}

impl Streams {
    /// Starts to receive on `port`, until the guest ends.
    ///
    /// # Errors
    ///
    /// The port is taken.
    pub fn receive(&mut self, port: u16) -> Result<()> {
        let socket = open_socket(port, RCVBUF)?;
        let receiver = Arc::new(Mutex::new(Receiver::default()));
        self.receivers.push((port, Arc::clone(&receiver)));
        thread::Builder::new()
            .name(format!("recv-{port}"))
            .spawn(move || {
                let mut buf = vec![0; 65_536];
                while let Ok(len) = socket.recv(&mut buf) {
                    let message = dlr_traffic::verify(&buf[..len]);
                    let mut receiver = lock(&receiver);
                    match &message {
                        Ok(header)
                        | Err(Fault::Body { header, .. } | Fault::Length { header, .. }) => {
                            receiver
                                .trackers
                                .entry(header.stream)
                                .or_default()
                                .enter(&message);
                        }
                        Err(_) => receiver.unknown += 1,
                    }
                }
            })?;
        Ok(())
    }

    /// Starts to send datagrams.
    ///
    /// # Errors
    ///
    /// No socket, no thread.
    pub fn udp_send(&mut self, stream: Stream) -> Result<()> {
        let socket = UdpSocket::bind("0.0.0.0:0")?;
        socket.connect(SocketAddrV4::new(stream.dst, stream.port))?;
        self.spawn("udp", stream, move |message, _| {
            socket.send(message)?;
            Ok(())
        })
    }

    /// Connects to an echo port and starts to send; each message has to come back.
    ///
    /// # Errors
    ///
    /// No connection.
    pub fn tcp_echo(&mut self, stream: Stream) -> Result<()> {
        let mut socket = connect(&stream)?;
        let mut back = vec![0; stream.size];
        self.spawn("tcp-echo", stream, move |message, sent| {
            let start = Instant::now();
            socket.write_all(message)?;
            socket.read_exact(&mut back)?;
            let us = u64::try_from(start.elapsed().as_micros()).unwrap_or(u64::MAX);
            let mut sent = lock(sent);
            sent.longest_us = sent.longest_us.max(us);
            if back == message {
                sent.echoed += 1;
            } else {
                sent.corrupt += 1;
            }
            Ok(())
        })
    }

    /// Connects to a sink port and starts to send.
    ///
    /// # Errors
    ///
    /// No connection.
    pub fn tcp_send(&mut self, stream: Stream) -> Result<()> {
        let mut socket = connect(&stream)?;
        self.spawn("tcp", stream, move |message, _| {
            Ok(socket.write_all(message)?)
        })
    }

    /// Ends all senders; receivers go on.
    pub fn stop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.stop = Arc::default();
    }

    /// The accounts.
    ///
    /// # Errors
    ///
    /// No procfs.
    pub fn stats(&self) -> Result<Stats> {
        let queues = net::udp_queues()?;
        let drops = |port| {
            queues
                .iter()
                .filter(|(p, _)| *p == port)
                .map(|(_, q)| q.drops)
                .sum()
        };
        let received = self.receivers.iter().map(|(port, receiver)| {
            let receiver = lock(receiver);
            let streams = receiver
                .trackers
                .iter()
                .map(|(n, t)| (*n, t.report()))
                .collect();
            (
                *port,
                Received {
                    streams,
                    unknown: receiver.unknown,
                    drops: drops(*port),
                },
            )
        });
        Ok(Stats {
            received: received.collect(),
            sent: self.senders.iter().map(|s| lock(s).clone()).collect(),
        })
    }

    fn spawn(
        &mut self,
        kind: &str,
        stream: Stream,
        mut send: impl FnMut(&[u8], &Mutex<Sent>) -> Result<()> + Send + 'static,
    ) -> Result<()> {
        if stream.pps == 0 {
            bail!("a stream needs a rate");
        }
        let sent = Arc::new(Mutex::new(Sent {
            kind: kind.to_owned(),
            stream: stream.stream,
            sent: 0,
            echoed: 0,
            corrupt: 0,
            longest_us: 0,
            error: None,
            running: true,
        }));
        let (stop, account) = (Arc::clone(&self.stop), Arc::clone(&sent));
        thread::Builder::new()
            .name(format!("{kind}-{}", stream.stream))
            .spawn(move || {
                let result = paced(&stream, &stop, |message| {
                    send(message, &account)?;
                    lock(&account).sent += 1;
                    Ok(())
                });
                let mut account = lock(&account);
                account.running = false;
                account.error = result.err().map(|e| format!("{e:#}"));
            })?;
        self.senders.push(sent);
        Ok(())
    }
}

/// Calls `send` with one message after the other at the stream's rate until `stop`.
fn paced(
    stream: &Stream,
    stop: &AtomicBool,
    mut send: impl FnMut(&[u8]) -> Result<()>,
) -> Result<()> {
    let period = Duration::from_secs(1) / stream.pps;
    let (mut message, mut due, mut seq) = (vec![0; stream.size], Instant::now(), 0);
    while !stop.load(Ordering::Relaxed) {
        let now = Instant::now();
        if let Some(wait) = due.checked_duration_since(now).filter(|w| !w.is_zero()) {
            thread::sleep(wait);
        } else if now.saturating_duration_since(due) > CATCH_UP {
            due = now;
        }
        dlr_traffic::fill(&mut message, stream.stream, seq)?;
        send(&message)?;
        seq += 1;
        due += period;
    }
    Ok(())
}

fn connect(stream: &Stream) -> Result<TcpStream> {
    let address = SocketAddrV4::new(stream.dst, stream.port);
    let socket = TcpStream::connect_timeout(&address.into(), CONNECT)
        .with_context(|| format!("TCP to {address}"))?;
    socket.set_nodelay(true)?;
    socket.set_read_timeout(Some(TCP_DEADLINE))?;
    socket.set_write_timeout(Some(TCP_DEADLINE))?;
    Ok(socket)
}

/// One message to the UDP echo port of `dst` and back.
///
/// # Errors
///
/// None of the `attempts` is answered.
pub fn ping(dst: std::net::Ipv4Addr, attempts: u32) -> Result<Pong> {
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    socket.connect(SocketAddrV4::new(dst, ECHO_PORT))?;
    socket.set_read_timeout(Some(Duration::from_millis(200)))?;
    let mut back = vec![0; 2048];
    for attempt in 1..=attempts {
        let message = dlr_traffic::build(u32::MAX, u64::from(attempt), 1000)?;
        let start = Instant::now();
        // No route or no neighbour yet: the next attempt may find one.
        if socket.send(&message).is_err() {
            thread::sleep(Duration::from_millis(200));
            continue;
        }
        while let Ok(len) = socket.recv(&mut back) {
            if back[..len] == message {
                let rtt_us = u64::try_from(start.elapsed().as_micros()).unwrap_or(u64::MAX);
                return Ok(Pong {
                    attempts: attempt,
                    rtt_us,
                });
            }
        }
    }
    bail!("{dst} does not answer ({attempts} attempts)");
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
