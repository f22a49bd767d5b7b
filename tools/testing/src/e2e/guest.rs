// SPDX-License-Identifier: Apache-2.0 OR MIT

//! Talks to the program in a guest.

use std::{
    io::{BufRead, BufReader, Write},
    os::unix::net::UnixStream,
    time::{Duration, Instant},
};

use anyhow::{bail, Context, Result};
use dlr_guest::protocol::{Hello, Reply, Request};
use serde::de::DeserializeOwned;

use crate::HostBox;

/// How long the guest may take for an answer.
const ANSWER: Duration = Duration::from_secs(60);

/// A connection to the guest's virtio-serial port.
pub struct Guest {
    out: UnixStream,
    lines: BufReader<UnixStream>,
}

impl Guest {
    /// Connects to the port's socket in the box and waits until the guest
    /// answers.
    ///
    /// # Errors
    ///
    /// It does not answer within `limit`.
    pub fn connect(host: &HostBox, socket: &str, limit: Duration) -> Result<(Self, Hello)> {
        let end = Instant::now() + limit;
        let out = loop {
            match host.unix(socket) {
                Ok(stream) => break stream,
                Err(e) if Instant::now() > end => return Err(e.context("the guest's port")),
                Err(_) => std::thread::sleep(Duration::from_millis(100)),
            }
        };
        let lines = BufReader::new(out.try_clone()?);
        let mut guest = Self { out, lines };
        let left = end
            .saturating_duration_since(Instant::now())
            .max(Duration::from_secs(1));
        let hello = guest
            .ask_within(&Request::Hello, left)
            .context("the guest does not come up")?;
        Ok((guest, hello))
    }

    /// Sends a request and returns the answer.
    ///
    /// # Errors
    ///
    /// The guest refuses (the text is the guest's), or does not answer.
    pub fn ask<T: DeserializeOwned>(&mut self, request: &Request) -> Result<T> {
        self.ask_within(request, ANSWER)
    }

    /// [`Guest::ask`] with another limit.
    ///
    /// # Errors
    ///
    /// See there.
    pub fn ask_within<T: DeserializeOwned>(
        &mut self,
        request: &Request,
        limit: Duration,
    ) -> Result<T> {
        let text = serde_json::to_string(request)?;
        self.out.set_read_timeout(Some(limit))?;
        self.out
            .write_all(format!("{text}\n").as_bytes())
            .context("the guest's port")?;
        let mut line = String::new();
        let read = self.lines.read_line(&mut line);
        let read = read.with_context(|| format!("the guest does not answer to {text}"))?;
        if read == 0 {
            bail!("the guest's QEMU is gone; no answer to {text}");
        }
        match serde_json::from_str(&line).with_context(|| format!("answer to {text}: {line}"))? {
            Reply::Ok { ok } => {
                serde_json::from_value(ok).with_context(|| format!("answer to {text}: {line}"))
            }
            Reply::Err { error } => bail!("the guest, asked for {text}: {error}"),
        }
    }

    /// Sends a request that is not answered.
    ///
    /// # Errors
    ///
    /// The port is closed.
    pub fn tell(&mut self, request: &Request) -> Result<()> {
        let text = serde_json::to_string(request)?;
        Ok(self.out.write_all(format!("{text}\n").as_bytes())?)
    }
}
