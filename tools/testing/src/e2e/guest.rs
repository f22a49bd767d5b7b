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

use crate::{qmp::Silent, HostBox};

/// How long the guest may take for an answer.
const ANSWER: Duration = Duration::from_secs(60);

/// A connection to the guest's virtio-serial port.
pub struct Guest {
    vm: String,
    out: UnixStream,
    lines: BufReader<UnixStream>,
}

impl Guest {
    /// Connects to the port's socket in the box and waits until the guest in the virtual machine
    /// `vm` answers.
    ///
    /// # Errors
    ///
    /// It does not answer within `limit`, which is marked with [`Silent`].
    pub fn connect(
        host: &HostBox,
        vm: &str,
        socket: &str,
        limit: Duration,
    ) -> Result<(Self, Hello)> {
        let end = Instant::now() + limit;
        let out = loop {
            match host.unix(socket) {
                Ok(stream) => break stream,
                Err(e) if Instant::now() > end => {
                    let silent = Silent { vm: vm.to_owned() };
                    return Err(e.context("the guest's port").context(silent));
                }
                Err(_) => std::thread::sleep(Duration::from_millis(100)),
            }
        };
        let lines = BufReader::new(out.try_clone()?);
        let mut guest = Self {
            vm: vm.to_owned(),
            out,
            lines,
        };
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
    /// The guest refuses (the text is the guest's), or does not answer, which is marked with
    /// [`Silent`].
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
        let line = self.exchange(&text, limit).map_err(|e| {
            e.context(Silent {
                vm: self.vm.clone(),
            })
        })?;
        match serde_json::from_str(&line).with_context(|| format!("answer to {text}: {line}"))? {
            Reply::Ok { ok } => {
                serde_json::from_value(ok).with_context(|| format!("answer to {text}: {line}"))
            }
            Reply::Err { error } => bail!("the guest, asked for {text}: {error}"),
        }
    }

    /// Sends a line and waits for the one that answers it.
    fn exchange(&mut self, text: &str, limit: Duration) -> Result<String> {
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
        Ok(line)
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

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// A guest that says this and then nothing.
    fn saying(answers: &str) -> (Guest, UnixStream) {
        let (out, mut theirs) = UnixStream::pair().unwrap();
        theirs.write_all(answers.as_bytes()).unwrap();
        let lines = BufReader::new(out.try_clone().unwrap());
        let vm = "vm1".to_owned();
        (Guest { vm, out, lines }, theirs)
    }

    #[test]
    fn a_guest_that_does_not_answer_is_silent_and_one_that_refuses_is_not() {
        let soon = Duration::from_millis(20);
        let ask = |guest: &mut Guest| guest.ask_within::<()>(&Request::Stop, soon).unwrap_err();
        let (mut guest, theirs) = saying("{\"error\":\"no route\"}\n");
        let refused = ask(&mut guest);
        assert!(!refused.is::<Silent>(), "{refused:#}");
        assert!(ask(&mut guest).is::<Silent>(), "no answer in time");
        drop(theirs);
        let gone = ask(&mut guest);
        assert_eq!(gone.downcast_ref::<Silent>().unwrap().vm, "vm1");
    }
}
