// SPDX-License-Identifier: Apache-2.0 OR MIT

//! One NIC with one data function under test. Several of them work beside each other: most of
//! the time goes into deadlines.

use std::{
    cell::Cell,
    time::{Duration, Instant},
};

use anyhow::{bail, ensure, Context, Result};
use dlr_testing::{
    drive::{outcome, Drive},
    HostBox,
};
use serde_json::{json, Value};

use crate::limits::{MARGIN_MS, TIMEOUT_MS};

/// What the log tracks.
pub(crate) const TRACKED: &str = "0+1M";
/// Outside of that.
pub(crate) const UNTRACKED: &str = "0x10000000+64K";
/// When all commands of a case have ended: five times the longest of them, behind four reads.
const SETTLED: Duration = Duration::from_millis(5 * (5 * TIMEOUT_MS + MARGIN_MS));
/// How long any call may take, milliseconds: two deadlines, the reset handshake, and a busy machine.
const PATIENCE_MS: f64 = 30_000.0;

/// See the module.
pub(crate) struct Lane<'a> {
    pub(crate) host: &'a HostBox,
    number: usize,
    pub(crate) management: String,
    pub(crate) drive: Drive,
    /// Descriptors of the program with the device closed.
    idle: usize,
    slowest: f64,
    /// The queue of the NIC was stopped for good.
    stuck: Cell<bool>,
}

impl<'a> Lane<'a> {
    /// Binds the NIC and opens its function; saves an image of it as `image`.
    pub(crate) fn new(host: &'a HostBox, number: usize) -> Result<Self> {
        let management = host.addresses(number)?.remove(0);
        let data = host.bind_dlr(number)?.remove(0);
        let drive = Drive::start(host, &data)?;
        let idle = drive.descriptors(host)?;
        let mut lane = Self {
            host,
            number,
            management,
            drive,
            idle,
            slowest: 0.0,
            stuck: Cell::new(false),
        };
        lane.drive.open()?;
        lane.drive.go("STOP_COPY")?;
        let image = lane.drive.ok(&json!({"cmd": "read", "save": "image"}))?;
        ensure!(image["end"] == true, "{image}");
        lane.drive.go("RUNNING")?;
        lane.drive.ok(&json!({"cmd": "forget"}))?;
        Ok(lane)
    }

    /// A request to the NIC.
    pub(crate) fn nic(&self, request: &Value) -> Result<Value> {
        if request["cmd"] == "fault" && request["action"] == "stuck" {
            self.stuck.set(true);
        }
        self.host.nic(self.number)?.control(request)
    }

    /// The next command of this kind suffers.
    pub(crate) fn fault(&self, opcode: &str, action: &Value) -> Result<()> {
        self.nic(&json!({"cmd": "fault", "opcode": opcode, "action": action}))
            .map(drop)
    }

    /// A call, its outcome, and what it answered. It must end in time.
    pub(crate) fn call(&mut self, request: &Value) -> Result<(String, Value)> {
        let answer = self.drive.ask(request)?;
        let took = answer["ms"].as_f64().unwrap_or(0.0);
        ensure!(took < PATIENCE_MS, "{request} took {took} ms");
        self.slowest = self.slowest.max(took);
        let outcome = outcome(&answer).with_context(|| format!("{request}"))?;
        Ok((outcome, answer))
    }

    /// Only the outcome.
    pub(crate) fn errno(&mut self, request: &Value) -> Result<String> {
        self.call(request).map(|(outcome, _)| outcome)
    }

    /// Brings everything back to where it was, and looks that it is.
    pub(crate) fn recover(&mut self) -> Result<()> {
        self.nic(&json!({"cmd": "mend"}))?;
        if self.stuck.take() {
            self.free_queue()?;
        } else {
            self.check_works_as_it_is()
                .context("before any reset of the function")?;
        }
        let reset = self.errno(&json!({"cmd": "reset"}))?;
        ensure!(reset == "OK", "RESET: {reset}");
        let state = self.drive.state()?;
        ensure!(state == "RUNNING", "{state} after RESET");
        self.forget_files()?;
        // Independent of the reset (L20).
        let stop = self.errno(&json!({"cmd": "log-stop"}))?;
        ensure!(stop == "OK", "LOG_STOP afterwards: {stop}");
        self.check_works()?;
        let begin = Instant::now();
        while !self.host.is_none_in_flight(&self.management)? {
            ensure!(begin.elapsed() < SETTLED, "a command stays in flight");
            // A command for which no thread waits ends when its deadline has passed and a later command
            // of the function looks.
            std::thread::sleep(Duration::from_millis(500));
            self.check_works()?;
        }
        self.check_clean()
    }

    /// Dead files say so, and are closed.
    fn forget_files(&mut self) -> Result<()> {
        let status = self.drive.ok(&json!({"cmd": "status"}))?;
        for file in status["files"].as_array().into_iter().flatten() {
            let read = self.errno(&json!({"cmd": "read", "bytes": 1, "file": file}))?;
            // EBADF: a file to write to.
            ensure!(
                ["ENODEV", "EBADF"].contains(&read.as_str()),
                "{read} of a file that a reset has ended"
            );
            if read == "EBADF" {
                let write = self.errno(&json!({"cmd": "write", "hex": "00", "file": file}))?;
                ensure!(
                    write == "ENODEV",
                    "{write} of a file that a reset has ended"
                );
            }
            self.drive.ok(&json!({"cmd": "forget", "file": file}))?;
        }
        Ok(())
    }

    /// A queue that is stuck stays so until the management function is reset. The driver does that by
    /// itself after a while (`removal: h5_a_queue_that_does_not_come_back_is_tried_again`); here it is told,
    /// because there are many such cases.
    fn free_queue(&mut self) -> Result<()> {
        self.host
            .run(&format!(
                "echo 1 > /sys/bus/pci/devices/{}/reset",
                self.management
            ))
            .map(drop)
    }

    /// Without a reset, which a guest that goes on would not see: the function runs, and a
    /// save session works (H4). Not where a reset alone leads on: in ERROR and in RESUMING.
    fn check_works_as_it_is(&mut self) -> Result<()> {
        let state = self.drive.state()?;
        if ["ERROR", "RESUMING"].contains(&state.as_str()) {
            return Ok(());
        }
        let running = self.errno(&json!({"cmd": "set", "state": "RUNNING"}))?;
        ensure!(running == "OK", "RUNNING from {state}: {running}");
        self.check_works()
    }

    /// Nothing is left over, in the driver or in the device.
    fn check_clean(&self) -> Result<()> {
        self.host.check_idle(self.number, &self.management)
    }

    /// A save session can be begun, read from and ended.
    fn check_works(&mut self) -> Result<()> {
        self.drive.go("PRE_COPY")?;
        let read = self.errno(&json!({"cmd": "read", "bytes": 64}))?;
        if !["OK", "ENOMSG"].contains(&read.as_str()) {
            bail!("afterwards a read ends with {read}");
        }
        self.drive.go("RUNNING")?;
        self.drive.ok(&json!({"cmd": "forget"}))?;
        Ok(())
    }

    /// Closes all. Returns what the slowest call took.
    pub(crate) fn finish(mut self) -> Result<f64> {
        self.drive.close()?;
        let open = self.drive.descriptors(self.host)?;
        ensure!(
            open == self.idle,
            "{open} descriptors, {} at first",
            self.idle
        );
        self.drive.quit()?;
        Ok(self.slowest)
    }
}
