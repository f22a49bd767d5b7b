// SPDX-License-Identifier: Apache-2.0 OR MIT

//! What runs through a migration: streams both ways, and the backlog that the
//! memory oracle is made of.

use std::{
    net::Ipv4Addr,
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::{ensure, Context, Result};
use dlr_guest::protocol::{
    Address, BacklogReport, BacklogState, Nic, Pong, Request, Stats, Stream,
};
use dlr_traffic::{ECHO_PORT, SINK_PORT};
use serde::Serialize;
use serde_json::{json, Value};

pub(super) use self::numbers::id;
use self::settled::settled;
pub(in crate::e2e) use self::settled::sink_report;
pub use self::{
    load::Load,
    numbers::{BACKLOG, BULK, ECHO, LIVE, UPLINK},
};
use super::{lab::Lab, vm::Vm};

mod load;
mod numbers;
mod settled;

const BACKLOG_PORT: u16 = 5000;
const BACKLOG_PORTS: u16 = 4;
const LIVE_PORT: u16 = 6000;
/// What a datagram occupies in a socket's account, times its length, at most.
const OVERHEAD: usize = 4;

/// How long the guest may receive nothing after a migration.
const ALIVE: Duration = Duration::from_secs(30);
/// How long the echo of its TCP messages may take: TCP waits for longer and longer before it sends again.
const ECHOED: Duration = Duration::from_secs(90);
/// How long the last messages may be on their way.
const SETTLED: Duration = Duration::from_secs(120);
/// What has not changed for so long does not any more, all there or not: TCP waits about as long as
/// the guest stood still before it sends again.
const STILL: Duration = Duration::from_secs(40);

/// Running traffic.
#[derive(Debug)]
pub struct Traffic {
    load: Load,
}

/// What both sides have counted.
#[derive(Debug, Serialize)]
pub struct Accounts {
    /// Statistics of the wire, after all streams ended.
    pub peer: Value,
    /// What the backlog turned out to be.
    pub backlog: BacklogReport,
    /// The guest's streams.
    pub guest: Stats,
    /// Interfaces of the guest.
    pub nics: usize,
}

impl Traffic {
    /// Interfaces of the guest that take part.
    pub(super) fn nics(&self) -> usize {
        self.load.nics
    }

    /// Sets the guest's interfaces up and starts everything; returns when the
    /// first part of the backlog lies in the guest.
    ///
    /// # Errors
    ///
    /// What does not start.
    pub fn start(lab: &Lab, vm: &mut Vm, load: Load) -> Result<Self> {
        let traffic = Self { load };
        traffic.set_up(lab, vm)?;
        traffic.fill(lab)?;
        Ok(traffic)
    }

    fn set_up(&self, lab: &Lab, vm: &mut Vm) -> Result<()> {
        let load = &self.load;
        let guest = vm.guest(lab.host())?;
        let addresses = (0..load.nics).map(|n| Address {
            address: address(n, 2),
            prefix: 24,
        });
        let nics: Vec<Nic> = guest.ask(&Request::Net {
            nics: addresses.collect(),
            timeout_s: 30,
        })?;
        ensure!(
            nics.iter().all(|n| n.driver == "virtio_net"),
            "not the in-box driver: {nics:?}"
        );
        let rcvbuf =
            usize::try_from(load.backlog)? * load.size * OVERHEAD / usize::from(BACKLOG_PORTS);
        for n in 0..load.nics {
            let peer = address(n, 1);
            let _: Pong = guest.ask(&Request::Ping {
                dst: peer,
                attempts: 100,
            })?;
            let () = guest.ask(&Request::BacklogOpen {
                port: backlog_port(n),
                ports: BACKLOG_PORTS,
                rcvbuf,
            })?;
            let () = guest.ask(&Request::UdpReceive { port: live_port(n) })?;
            let stream = |stream, port, size, pps| Stream {
                stream: stream + id(n),
                dst: peer,
                port,
                size,
                pps,
            };
            let () = guest.ask(&Request::UdpSend(stream(UPLINK, SINK_PORT, 1400, load.pps)))?;
            let () = guest.ask(&Request::TcpEcho(stream(
                ECHO,
                ECHO_PORT,
                4000,
                load.pps / 2 + 1,
            )))?;
            let () = guest.ask(&Request::TcpSend(stream(
                BULK,
                SINK_PORT,
                3000,
                load.pps / 2 + 1,
            )))?;
            lab.wire(
                json!({"cmd": "start", "stream": LIVE + id(n), "dst": address(n, 2),
                "port": live_port(n), "size": 1400, "pps": load.pps}),
            )?;
        }
        Ok(())
    }

    fn fill(&self, lab: &Lab) -> Result<()> {
        let load = &self.load;
        for n in 0..load.nics {
            lab.wire(
                json!({"cmd": "start", "stream": BACKLOG + id(n), "dst": address(n, 2),
                "port": backlog_port(n), "ports": BACKLOG_PORTS, "size": load.size, "pps": 2000,
                "count": load.backlog, "patience_ms": 1000}),
            )?;
        }
        let end = Instant::now() + Duration::from_secs(120);
        let mut slow = vec![false; load.nics];
        while slow.contains(&false) {
            let stats = lab.wire(json!({"cmd": "stats"}))?;
            for (n, slow) in slow.iter_mut().enumerate() {
                if !*slow && next(&stats, BACKLOG + id(n))? >= load.before {
                    lab.wire(json!({"cmd": "rate", "stream": BACKLOG + id(n), "pps": 0}))?;
                    *slow = true;
                }
            }
            ensure!(Instant::now() < end, "the backlog does not fill: {stats}");
            sleep(Duration::from_millis(30));
        }
        Ok(())
    }

    /// Lets the backlog grow again, slowly: what the migration has to notice.
    ///
    /// # Errors
    ///
    /// The NIC does not answer.
    pub fn trickle(&self, lab: &Lab) -> Result<()> {
        self.rate(lab, self.load.trickle)
    }

    /// Lets the backlog grow no more. Its length is limited, and the time between two migrations is not.
    ///
    /// # Errors
    ///
    /// The NIC does not answer.
    pub fn rest(&self, lab: &Lab) -> Result<()> {
        self.rate(lab, 0)
    }

    fn rate(&self, lab: &Lab, pps: u32) -> Result<()> {
        for n in 0..self.load.nics {
            lab.wire(json!({"cmd": "rate", "stream": BACKLOG + id(n), "pps": pps}))?;
        }
        Ok(())
    }

    /// How many datagrams of the backlog the guest has by now.
    ///
    /// # Errors
    ///
    /// The NIC does not answer.
    pub fn backlog(&self, lab: &Lab) -> Result<u64> {
        let stats = lab.wire(json!({"cmd": "stats"}))?;
        (0..self.load.nics)
            .map(|n| next(&stats, BACKLOG + id(n)))
            .sum()
    }

    /// What lies in the guest's sockets.
    ///
    /// # Errors
    ///
    /// The guest does not answer.
    pub fn backlog_state(&self, lab: &Lab, vm: &mut Vm) -> Result<BacklogState> {
        vm.guest(lab.host())?.ask(&Request::BacklogState)
    }

    /// Fails if the guest in `vm` does not take part any more: both directions
    /// have to make progress.
    ///
    /// # Errors
    ///
    /// Says what stands still.
    pub fn check_alive(&self, lab: &Lab, vm: &mut Vm) -> Result<()> {
        let progress = |vm: &mut Vm| -> Result<(u64, u64)> {
            let stats: Stats = vm.guest(lab.host())?.ask(&Request::Stats)?;
            let echoed = stats.sent.iter().map(|s| s.echoed).sum();
            let received = stats.received.values().flat_map(|r| r.streams.values());
            Ok((echoed, received.map(|r| r.received).sum()))
        };
        let start = progress(vm).context("the guest after the migration")?;
        let begin = Instant::now();
        loop {
            sleep(Duration::from_millis(300));
            let now = progress(vm)?;
            let (echoed, received) = (now.0 > start.0 + 2, now.1 > start.1 + 2);
            if echoed && received {
                return Ok(());
            }
            if begin.elapsed() > if received { ECHOED } else { ALIVE } {
                return Err(vm.silent(format_args!(
                    "traffic stands still: TCP echo {} → {}, received {} → {}",
                    start.0, now.0, start.1, now.1
                )));
            }
        }
    }

    /// Ends all streams, reads the backlog, and collects what everybody counted.
    ///
    /// # Errors
    ///
    /// Guest or NIC does not answer.
    pub fn finish(&self, lab: &Lab, vm: &mut Vm) -> Result<Accounts> {
        lab.wire(json!({"cmd": "stop"}))?;
        let guest = vm.guest(lab.host())?;
        let () = guest.ask(&Request::Stop)?;
        let end = Instant::now() + SETTLED;
        let mut before = (
            guest.ask::<Stats>(&Request::Stats)?,
            lab.wire(json!({"cmd": "stats"}))?,
        );
        let mut changed = Instant::now();
        // What has been sent is on its way: wait for both sides to have it, and to stand still. A TCP
        // connection that sends again after a while only stands still.
        loop {
            sleep(Duration::from_millis(700));
            let stats: Stats = guest.ask(&Request::Stats)?;
            let peer = lab.wire(json!({"cmd": "stats"}))?;
            let still = stats == before.0 && peer["backend"] == before.1["backend"];
            if !still {
                changed = Instant::now();
            }
            let ended = settled(&peer, &stats, self.load.nics) || changed.elapsed() > STILL;
            if (still && ended) || Instant::now() > end {
                let backlog =
                    guest.ask_within(&Request::BacklogVerify, Duration::from_secs(180))?;
                return Ok(Accounts {
                    peer,
                    backlog,
                    guest: stats,
                    nics: self.load.nics,
                });
            }
            before = (stats, peer);
        }
    }
}

/// Host `host` in the network of interface `nic`.
pub fn address(nic: usize, host: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 9, u8::try_from(nic).unwrap_or(u8::MAX), host)
}

fn backlog_port(nic: usize) -> u16 {
    BACKLOG_PORT + 100 * u16::try_from(nic).unwrap_or(0)
}

fn live_port(nic: usize) -> u16 {
    LIVE_PORT + u16::try_from(nic).unwrap_or(0)
}

/// Number of messages of a peer's stream so far.
pub(super) fn next(stats: &Value, stream: u32) -> Result<u64> {
    let streams = stats["backend"]["streams"]
        .as_array()
        .context("no streams")?;
    let stream = streams
        .iter()
        .find(|s| s["stream"] == stream)
        .context("no such stream")?;
    stream["next"].as_u64().context("no counter")
}
