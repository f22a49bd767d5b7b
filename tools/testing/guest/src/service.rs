// SPDX-License-Identifier: Apache-2.0 OR MIT

//! Carries out requests.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, Read, Write},
    os::fd::{AsFd, OwnedFd},
    time::Duration,
};

use anyhow::{Context, Result};
use rustix::fs::{Mode, OFlags};
use serde_json::Value;

use crate::{
    backlog::Backlog,
    net,
    protocol::{Hello, Reply, Request},
    streams::{self, Streams},
    xdp::Attached,
};

/// Everything that runs in the guest.
#[derive(Debug, Default)]
pub struct Service {
    backlog: Backlog,
    streams: Streams,
    xdp: Attached,
    log: Option<OwnedFd>,
}

impl Service {
    /// Answers requests from `channel` until the guest is to be turned off.
    ///
    /// # Errors
    ///
    /// The channel fails.
    pub fn run(&mut self, channel: &File) -> Result<()> {
        let mut lines = BufReader::new(channel);
        loop {
            let mut line = String::new();
            if lines.read_line(&mut line)? == 0 {
                // Nobody is connected on the host's side, as after a migration.
                std::thread::sleep(Duration::from_millis(20));
                continue;
            }
            let reply = match serde_json::from_str(line.trim()) {
                Ok(Request::PowerOff) => return Ok(()),
                Ok(request) => self.reply(request),
                Err(e) => Reply::Err {
                    error: format!("not a request: {e}"),
                },
            };
            let mut text = serde_json::to_string(&reply)?;
            text.push('\n');
            (&*channel).write_all(text.as_bytes())?;
        }
    }

    /// Carries out one request.
    pub fn reply(&mut self, request: Request) -> Reply {
        match self.execute(request) {
            Ok(ok) => Reply::Ok { ok },
            Err(e) => Reply::Err {
                error: format!("{e:#}"),
            },
        }
    }

    fn execute(&mut self, request: Request) -> Result<Value> {
        Ok(match request {
            Request::Hello => serde_json::to_value(hello())?,
            Request::Net { nics, timeout_s } => {
                serde_json::to_value(net::setup(&nics, Duration::from_secs(timeout_s))?)?
            }
            Request::Rebind { nic } => {
                net::rebind(nic)?;
                Value::Null
            }
            Request::Xdp { nic, action } => {
                let nics = net::nics()?;
                let nic = nics
                    .get(nic)
                    .with_context(|| format!("no interface {nic}"))?;
                self.xdp.set(&nic.name, action)?;
                Value::Null
            }
            Request::Ping { dst, attempts } => serde_json::to_value(streams::ping(dst, attempts)?)?,
            Request::BacklogOpen {
                port,
                ports,
                rcvbuf,
            } => {
                self.backlog.open(port, ports, rcvbuf)?;
                Value::Null
            }
            Request::BacklogState => serde_json::to_value(self.backlog.state()?)?,
            Request::BacklogVerify => serde_json::to_value(self.backlog.verify()?)?,
            Request::UdpReceive { port } => {
                self.streams.receive(port)?;
                Value::Null
            }
            Request::UdpSend(stream) => {
                self.streams.udp_send(stream)?;
                Value::Null
            }
            Request::TcpEcho(stream) => {
                self.streams.tcp_echo(stream)?;
                Value::Null
            }
            Request::TcpSend(stream) => {
                self.streams.tcp_send(stream)?;
                Value::Null
            }
            Request::Stop => {
                self.streams.stop();
                Value::Null
            }
            Request::Stats => serde_json::to_value(self.streams.stats()?)?,
            Request::KernelLog => serde_json::to_value(self.kernel_log()?)?,
            Request::PowerOff => Value::Null,
        })
    }

    /// Records of `/dev/kmsg` that have not been read yet, without their prefixes.
    fn kernel_log(&mut self) -> Result<Vec<String>> {
        let fd = match self.log.take() {
            Some(fd) => fd,
            None => rustix::fs::open(
                "/dev/kmsg",
                OFlags::RDONLY | OFlags::NONBLOCK,
                Mode::empty(),
            )
            .context("/dev/kmsg")?,
        };
        let mut file = File::from(fd.as_fd().try_clone_to_owned()?);
        self.log = Some(fd);
        let (mut lines, mut buf) = (vec![], vec![0; 8192]);
        loop {
            match file.read(&mut buf) {
                Ok(0) => break,
                Ok(len) => {
                    let record = String::from_utf8_lossy(&buf[..len]);
                    let text = record.split_once(';').map_or(&*record, |(_, text)| text);
                    lines.push(text.lines().next().unwrap_or_default().to_owned());
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
                // EPIPE: records were overwritten before they were read; go on with the next.
                Err(e) if e.kind() == io::ErrorKind::BrokenPipe => {
                    lines.push("(records lost)".into())
                }
                Err(e) => return Err(e).context("/dev/kmsg"),
            }
        }
        Ok(lines)
    }
}

fn hello() -> Hello {
    let system = rustix::system::sysinfo();
    Hello {
        kernel: rustix::system::uname()
            .release()
            .to_string_lossy()
            .into_owned(),
        memory: u64::from(system.mem_unit) * system.totalram,
        uptime_s: u64::try_from(system.uptime).unwrap_or(0),
    }
}
