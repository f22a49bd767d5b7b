// SPDX-License-Identifier: Apache-2.0 OR MIT

//! The memory oracle: datagrams that pile up unread, and their verification.

use std::{
    collections::BTreeMap,
    io,
    net::{Ipv4Addr, SocketAddrV4, UdpSocket},
};

use anyhow::{bail, Context, Result};
use dlr_traffic::{Fault, Tracker};
use socket2::{Domain, Protocol, Socket, Type};

use crate::{
    net,
    protocol::{BacklogReport, BacklogState},
};

/// Longest datagram, and one byte to notice a longer one.
const DATAGRAM: usize = 65_508;
/// Faults that are listed.
const LISTED: usize = 32;

/// A UDP socket on `port` with a receive buffer of `rcvbuf` bytes.
///
/// # Errors
///
/// The port is taken, or the kernel gives a smaller buffer.
pub fn open_socket(port: u16, rcvbuf: usize) -> Result<UdpSocket> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_recv_buffer_size(rcvbuf)?;
    let got = socket.recv_buffer_size()?;
    if got < rcvbuf {
        bail!("the kernel gives {got} bytes of receive buffer instead of {rcvbuf}");
    }
    let address = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, port);
    socket
        .bind(&address.into())
        .with_context(|| format!("UDP port {port}"))?;
    Ok(socket.into())
}

/// The sockets, and what has been read from them.
#[derive(Debug, Default)]
pub struct Backlog {
    sockets: Vec<(u16, UdpSocket)>,
    trackers: BTreeMap<u32, Tracker>,
    unknown: u64,
    faults: Vec<String>,
}

impl Backlog {
    /// Opens `ports` sockets from `port` on.
    ///
    /// # Errors
    ///
    /// See [`open_socket`].
    pub fn open(&mut self, port: u16, ports: u16, rcvbuf: usize) -> Result<()> {
        let end = port
            .checked_add(ports)
            .context("there are not so many ports")?;
        for port in port..end {
            let socket = open_socket(port, rcvbuf)?;
            socket.set_nonblocking(true)?;
            self.sockets.push((port, socket));
        }
        Ok(())
    }

    /// What has piled up. Looks at the kernel's counters only, never at the data.
    ///
    /// # Errors
    ///
    /// No `/proc/net/udp`.
    pub fn state(&self) -> Result<BacklogState> {
        let mut state = BacklogState {
            sockets: self.sockets.len(),
            ..BacklogState::default()
        };
        for (port, queue) in net::udp_queues()? {
            if self.sockets.iter().any(|(p, _)| *p == port) {
                state.queued_bytes += queue.bytes;
                state.drops += queue.drops;
            }
        }
        Ok(state)
    }

    /// Reads and checks everything.
    ///
    /// # Errors
    ///
    /// A socket fails.
    pub fn verify(&mut self) -> Result<BacklogReport> {
        let (mut messages, mut bytes) = (0, 0);
        let mut buf = vec![0; DATAGRAM];
        for (port, socket) in &self.sockets {
            loop {
                let len = match socket.recv(&mut buf) {
                    Ok(len) => len,
                    Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
                    Err(e) => return Err(e).with_context(|| format!("UDP port {port}")),
                };
                messages += 1;
                bytes += len as u64;
                let message = dlr_traffic::verify(&buf[..len]);
                let stream = match &message {
                    Ok(header) | Err(Fault::Body { header, .. } | Fault::Length { header, .. }) => {
                        header.stream
                    }
                    Err(fault) => {
                        self.unknown += 1;
                        if self.faults.len() < LISTED {
                            self.faults.push(format!("port {port}: {fault}"));
                        }
                        continue;
                    }
                };
                self.trackers.entry(stream).or_default().enter(&message);
            }
        }
        Ok(BacklogReport {
            messages,
            bytes,
            streams: self
                .trackers
                .iter()
                .map(|(n, t)| (*n, t.report()))
                .collect(),
            unknown: self.unknown,
            faults: self.faults.clone(),
            drops: self.state()?.drops,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_piled_up_is_checked() {
        let mut backlog = Backlog::default();
        let port = 47_311;
        backlog.open(port, 2, 100_000).unwrap();
        let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
        for seq in 0..10 {
            let mut message = dlr_traffic::build(1, seq, 2000).unwrap();
            if seq == 7 {
                message[1000..1500].fill(0);
            }
            sender
                .send_to(&message, ("127.0.0.1", port + (seq % 2) as u16))
                .unwrap();
        }
        sender.send_to(b"no message", ("127.0.0.1", port)).unwrap();
        let state = backlog.state().unwrap();
        assert!(state.queued_bytes > 20_000 && state.drops == 0, "{state:?}");
        let report = backlog.verify().unwrap();
        assert_eq!(
            (report.messages, report.unknown, report.corrupt()),
            (11, 1, 2)
        );
        let stream = &report.streams[&1];
        assert_eq!((stream.received, stream.missing, stream.corrupt), (9, 0, 1));
        assert_eq!(backlog.verify().unwrap().messages, 0);
    }
}
