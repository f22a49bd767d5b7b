// SPDX-License-Identifier: Apache-2.0 OR MIT

//! A device of a host box, call by call: `vfio-mig drive` inside, this outside.

use std::{
    io::{BufRead, BufReader, Write},
    os::unix::net::UnixStream,
    time::{Duration, Instant},
};

use anyhow::{bail, ensure, Context, Result};
use serde_json::{json, Value};

use crate::{
    agent::{Output, Program},
    HostBox,
};

/// How long the program may take to listen.
const START: Duration = Duration::from_secs(60);

/// How long any call may take: what takes longer hangs.
const LIMIT: Duration = Duration::from_secs(90);

/// A `vfio-mig drive` in the box. When this is dropped the program ends, and with it the device is closed.
pub struct Drive {
    out: UnixStream,
    lines: BufReader<UnixStream>,
    program: Program,
}

impl Drive {
    /// Starts the program for the device with this address. The device is not open yet.
    ///
    /// # Errors
    ///
    /// It does not come up.
    pub fn start(host: &HostBox, address: &str) -> Result<Self> {
        let socket = format!("/tmp/drive-{address}");
        host.run(&format!("rm -f {socket}"))?;
        let mut program = host.spawn(&format!(
            "exec vfio-mig drive {address} --listen {socket} < /dev/null"
        ))?;
        let end = Instant::now() + START;
        let out = loop {
            match host.unix(&socket) {
                Ok(stream) => break stream,
                Err(e) if Instant::now() > end => return Err(e.context("vfio-mig drive")),
                Err(_) => std::thread::sleep(Duration::from_millis(50)),
            }
            if !program.poll()? {
                bail!("vfio-mig drive ended at once: {}", said(program.output()));
            }
        };
        out.set_read_timeout(Some(LIMIT))?;
        let lines = BufReader::new(out.try_clone()?);
        Ok(Self {
            out,
            lines,
            program,
        })
    }

    /// Sends a request and returns the answer, whatever it is.
    ///
    /// # Errors
    ///
    /// There is no answer in time: the call hangs, or the program has died.
    pub fn ask(&mut self, request: &Value) -> Result<Value> {
        self.out
            .write_all(format!("{request}\n").as_bytes())
            .context("vfio-mig drive")?;
        let mut line = String::new();
        let read = self.lines.read_line(&mut line);
        let read = read.with_context(|| format!("no answer to {request} within {LIMIT:?}"))?;
        ensure!(read != 0, "vfio-mig drive died of {request}");
        serde_json::from_str(&line).with_context(|| format!("answer to {request}: {line}"))
    }

    /// A call that has to succeed.
    ///
    /// # Errors
    ///
    /// It fails.
    pub fn ok(&mut self, request: &Value) -> Result<Value> {
        let answer = self.ask(request)?;
        ensure!(answer["ok"] == true, "{request}: {answer}");
        Ok(answer)
    }

    /// `OK` or the name of the errno of a call.
    ///
    /// # Errors
    ///
    /// It failed for another reason than what the kernel said.
    pub fn errno(&mut self, request: &Value) -> Result<String> {
        let answer = self.ask(request)?;
        outcome(&answer).with_context(|| format!("{request}"))
    }

    /// Opens the device.
    ///
    /// # Errors
    ///
    /// It cannot be opened.
    pub fn open(&mut self) -> Result<()> {
        self.ok(&json!({"cmd": "open"})).map(drop)
    }

    /// Closes the device. Data files stay.
    ///
    /// # Errors
    ///
    /// It was not open.
    pub fn close(&mut self) -> Result<()> {
        self.ok(&json!({"cmd": "close"})).map(drop)
    }

    /// The state that GET shows.
    ///
    /// # Errors
    ///
    /// There is none.
    pub fn state(&mut self) -> Result<String> {
        let answer = self.ok(&json!({"cmd": "get"}))?;
        let state = answer["state"].as_str().context("no state")?;
        Ok(state.to_owned())
    }

    /// `OK` or the errno of SET.
    ///
    /// # Errors
    ///
    /// There is no answer.
    pub fn set(&mut self, state: &str) -> Result<String> {
        self.errno(&json!({"cmd": "set", "state": state}))
    }

    /// Goes to a state, which has to succeed.
    ///
    /// # Errors
    ///
    /// It does not.
    pub fn go(&mut self, state: &str) -> Result<()> {
        self.ok(&json!({"cmd": "set", "state": state})).map(drop)
    }

    /// Starts a call in a thread of the program.
    ///
    /// # Errors
    ///
    /// It cannot be started.
    pub fn begin(&mut self, mut request: Value) -> Result<u64> {
        request["async"] = json!(true);
        let answer = self.ok(&request)?;
        answer["job"].as_u64().context("no job")
    }

    /// Waits for such a call; `None` when it has not ended within `limit`.
    ///
    /// # Errors
    ///
    /// There is no such call.
    pub fn wait(&mut self, job: u64, limit: Duration) -> Result<Option<Value>> {
        let ms = u64::try_from(limit.as_millis()).unwrap_or(u64::MAX);
        let answer = self.ask(&json!({"cmd": "wait", "job": job, "timeout_ms": ms}))?;
        Ok((answer["pending"] != true).then_some(answer))
    }

    /// Process id of the program in the box.
    pub fn pid(&self) -> i32 {
        self.program.pid()
    }

    /// Number of file descriptors that the program has open.
    ///
    /// # Errors
    ///
    /// The box is gone.
    pub fn descriptors(&self, host: &HostBox) -> Result<usize> {
        let listing = host.run(&format!("ls /proc/{}/fd", self.program.pid()))?;
        Ok(listing.split_whitespace().count())
    }

    /// Kills the program in the middle of whatever it does, and waits until it is gone.
    ///
    /// # Errors
    ///
    /// It does not go.
    pub fn kill(mut self) -> Result<()> {
        self.program.signal(9)?;
        self.program.wait(LIMIT).map(drop)
    }

    /// Ends the program, and waits for it.
    ///
    /// # Errors
    ///
    /// It does not end.
    pub fn quit(mut self) -> Result<()> {
        self.ok(&json!({"cmd": "quit"}))?;
        let output = self.program.wait(LIMIT)?;
        ensure!(output.success(), "vfio-mig drive: {}", said(&output));
        Ok(())
    }
}

impl Drop for Drive {
    fn drop(&mut self) {
        // It may have ended, or the box.
        let _ = self.program.signal(15);
    }
}

/// Number of pages that the answer to a REPORT calls dirty.
///
/// # Errors
///
/// It has no such number.
pub fn dirty(answer: &Value) -> Result<u64> {
    let count = answer["dirty"].as_u64();
    count.with_context(|| format!("no number of dirty pages in {answer}"))
}

/// `OK` or the name of the errno in an answer.
///
/// # Errors
///
/// The call failed for another reason.
pub fn outcome(answer: &Value) -> Result<String> {
    if answer["ok"] == true {
        return Ok("OK".to_owned());
    }
    let errno = answer["errno"].as_str();
    errno.map(str::to_owned).with_context(|| answer.to_string())
}

fn said(output: &Output) -> String {
    let errors = String::from_utf8_lossy(&output.stderr);
    format!("{} {}{errors}", output.ending(), output.text())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_without_a_number_is_not_dirty() {
        assert_eq!(dirty(&json!({"dirty": 3})).ok(), Some(3));
        assert_eq!(dirty(&json!({"dirty": 0})).ok(), Some(0));
        assert!(dirty(&json!({})).is_err());
        assert!(dirty(&json!({"dirty": null})).is_err());
    }
}
