// SPDX-License-Identifier: Apache-2.0 OR MIT

//! A NIC with two data functions, both open: one with its log on, one with it off.

use std::{
    cell::Cell,
    time::{Duration, Instant},
};

use anyhow::{ensure, Context, Result};
use dlr_testing::{agent::Program, drive::Drive, BoxConfig, HostBox, NicConfig, Placement};
use serde_json::{json, Value};

/// Longest time of a command that the NIC is started with, milliseconds. What ends much earlier was woken.
pub(crate) const TIMEOUT_MS: u64 = 3000;
/// What the driver adds to the deadline of a command, milliseconds.
const MARGIN_MS: u64 = 500;
/// From when a command is given to when its abort begins, and from there to when that is overdue.
pub(crate) const DEADLINE_MS: u64 = TIMEOUT_MS + MARGIN_MS;
/// Half of the time of a command in a bench that is slow by a minute.
pub(crate) const SOON: Duration = Duration::from_secs(30);
/// All states; ERROR is entered by force.
pub(crate) const STATES: [&str; 8] = [
    "RUNNING",
    "RUNNING_P2P",
    "STOP",
    "STOP_COPY",
    "RESUMING",
    "PRE_COPY",
    "PRE_COPY_P2P",
    "ERROR",
];
/// What the log tracks.
const TRACKED: &str = "0+1M";
/// How long removals and the like may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// See the module.
pub(crate) struct Bench {
    pub(crate) host: HostBox,
    pub(crate) management: String,
    pub(crate) data: Vec<String>,
    pub(crate) drives: Vec<Drive>,
    /// FLRs of the management function that a test gave through sysfs; the driver must give none.
    flrs: Cell<u64>,
}

impl Bench {
    /// All bound, nothing open; an image is saved as `image` in each program.
    pub(crate) fn new() -> Result<Self> {
        Self::placed(Placement::RootBus)
    }

    /// [`Bench::new`] with the NIC plugged in elsewhere.
    pub(crate) fn placed(placement: Placement) -> Result<Self> {
        Self::with(placement, TIMEOUT_MS)
    }

    /// [`Bench::new`] with a NIC whose commands may take so long, in milliseconds.
    pub(crate) fn slow(timeout_ms: u64) -> Result<Self> {
        Self::with(Placement::RootBus, timeout_ms)
    }

    /// [`Bench::slow`] with a management function that an FLR resets alone.
    pub(crate) fn slow_without_vfs(timeout_ms: u64) -> Result<Self> {
        let nic = NicConfig::new(2).args([format!("--cmd-timeout={timeout_ms}")]);
        Self::in_box(BoxConfig::for_test().nic(nic))
    }

    /// [`Bench::slow`] with the NIC plugged in elsewhere.
    pub(crate) fn with(placement: Placement, timeout_ms: u64) -> Result<Self> {
        let nic = NicConfig::new(2)
            .args([
                format!("--cmd-timeout={timeout_ms}"),
                // The driver's own FLR of the management function would take the data functions away.
                "--sriov-like".to_string(),
            ])
            .placed(placement);
        Self::in_box(BoxConfig::for_test().nic(nic))
    }

    /// [`Bench::new`] with a management function that an FLR resets alone.
    pub(crate) fn without_vfs() -> Result<Self> {
        Self::slow_without_vfs(TIMEOUT_MS)
    }

    /// [`Bench::new`] in a box like this, which has one NIC of two functions.
    pub(crate) fn in_box(config: BoxConfig) -> Result<Self> {
        Self::with_parameters(config, "")
    }

    /// [`Bench::in_box`] with these parameters of the driver.
    pub(crate) fn with_parameters(config: BoxConfig, parameters: &str) -> Result<Self> {
        let host = HostBox::start(config)?;
        host.load_driver(parameters)?;
        let management = host.addresses(0)?.remove(0);
        let data = host.bind_dlr(0)?;
        let mut drives = Vec::new();
        for address in &data {
            let mut drive = Drive::start(&host, address)?;
            drive.open()?;
            drive.go("STOP_COPY")?;
            drive.ok(&json!({"cmd": "read", "save": "image"}))?;
            drive.ok(&json!({"cmd": "forget"}))?;
            drive.close()?;
            drives.push(drive);
        }
        Ok(Self {
            host,
            management,
            data,
            drives,
            flrs: Cell::new(0),
        })
    }

    /// A request to the NIC.
    pub(crate) fn nic(&self, request: &Value) -> Result<Value> {
        self.host.nic(0)?.control(request)
    }

    /// The next command of this kind is refused.
    fn refuse(&self, opcode: &str) -> Result<()> {
        let action = json!({"status": 9});
        self.nic(&json!({"cmd": "fault", "opcode": opcode, "action": action}))
            .map(drop)
    }

    /// The next command of this kind is not answered.
    pub(crate) fn silence(&self, opcode: &str) -> Result<()> {
        self.nic(&json!({"cmd": "fault", "opcode": opcode, "action": "ignore"}))
            .map(drop)
    }

    /// Opens both functions, starts the log of the first, and takes both to `state`.
    pub(crate) fn enter(&mut self, state: &str) -> Result<()> {
        for function in 0..self.drives.len() {
            self.drives[function].open()?;
            if function == 0 {
                self.start_log(function)?;
            }
            if state == "ERROR" {
                self.refuse("suspend")?;
                self.refuse("resume")?;
                let errno = self.drives[function].set("RUNNING_P2P")?;
                ensure!(errno == "EIO", "{errno} on the way to ERROR");
            } else {
                self.drives[function].go(state)?;
            }
            self.expect_state(function, state)?;
        }
        Ok(())
    }

    pub(crate) fn start_log(&mut self, function: usize) -> Result<()> {
        self.drives[function]
            .ok(&json!({"cmd": "log-start", "ranges": [TRACKED]}))
            .map(drop)
    }

    /// The errno of a REPORT.
    pub(crate) fn report(&mut self, function: usize) -> Result<String> {
        self.drives[function].errno(&json!({"cmd": "report", "range": TRACKED}))
    }

    pub(crate) fn expect_state(&mut self, function: usize, state: &str) -> Result<()> {
        let seen = self.drives[function].state()?;
        ensure!(seen == state, "function {function} is in {seen}");
        Ok(())
    }

    /// The outcome of this call has to be one of these.
    pub(crate) fn expect(&mut self, function: usize, call: Value, wanted: &[&str]) -> Result<()> {
        let errno = self.drives[function].errno(&call)?;
        ensure!(
            wanted.contains(&errno.as_str()),
            "function {function}: {call} is {errno}, not {}",
            wanted.join(" or ")
        );
        Ok(())
    }

    /// The file of a state with a session; how its use has to end.
    pub(crate) fn expect_file(
        &mut self,
        function: usize,
        state: &str,
        wanted: &[&str],
    ) -> Result<()> {
        match state {
            "PRE_COPY" | "PRE_COPY_P2P" | "STOP_COPY" => {
                self.expect(function, json!({"cmd": "read"}), wanted)
            }
            "RESUMING" => self.expect(function, json!({"cmd": "write", "saved": "image"}), wanted),
            _ => Ok(()),
        }
    }

    /// Closes the data files of a function.
    pub(crate) fn forget(&mut self, function: usize) -> Result<()> {
        let status = self.drives[function].ok(&json!({"cmd": "status"}))?;
        for file in status["files"].as_array().into_iter().flatten() {
            self.drives[function].ok(&json!({"cmd": "forget", "file": file}))?;
        }
        Ok(())
    }

    /// RESET brings RUNNING back, and ends the session.
    pub(crate) fn reset(&mut self, function: usize, state: &str) -> Result<()> {
        self.drives[function].ok(&json!({"cmd": "reset"}))?;
        self.expect_state(function, "RUNNING")?;
        self.expect_file(function, state, &["ENODEV"])?;
        self.forget(function)
    }

    /// Closes what is open.
    pub(crate) fn close(&mut self) -> Result<()> {
        for function in 0..self.drives.len() {
            self.drives[function].close()?;
            self.forget(function)?;
        }
        Ok(())
    }

    /// Function 0 can be opened, logged and saved; nothing is left over from before.
    pub(crate) fn check_works(&mut self) -> Result<()> {
        self.drives[0].open()?;
        self.start_log(0)?;
        self.drives[0].go("PRE_COPY")?;
        self.drives[0].go("STOP_COPY")?;
        self.expect_file(0, "STOP_COPY", &["OK"])?;
        let report = self.report(0)?;
        ensure!(report == "OK", "REPORT: {report}");
        self.drives[0].close()?;
        self.forget(0)?;
        self.check_clean()
    }

    /// Neither driver nor NIC has anything left of sessions and logs.
    pub(crate) fn check_clean(&self) -> Result<()> {
        self.host.check_idle(0, &self.management)
    }

    /// Writes to a file of sysfs, which has to end soon.
    pub(crate) fn sysfs(&self, path: &str, text: &str) -> Result<()> {
        let command = format!("echo {text} > {path}");
        let output = self.host.try_run(&command, PATIENCE)?;
        ensure!(output.success(), "`{command}` {}", output.ending());
        Ok(())
    }

    pub(crate) fn unbind(&self, address: &str) -> Result<()> {
        self.sysfs(
            &format!("/sys/bus/pci/devices/{address}/driver/unbind"),
            address,
        )
    }

    pub(crate) fn remove(&self, address: &str) -> Result<()> {
        self.sysfs(&format!("/sys/bus/pci/devices/{address}/remove"), "1")
    }

    /// The driver gives the management function an FLR, as it has no VFs and nothing else helps.
    pub(crate) fn expect_flr(&self) {
        self.flrs.set(self.flrs.get().saturating_add(1));
    }

    /// Resets a function behind its driver's back.
    pub(crate) fn reset_function(&self, address: &str) -> Result<()> {
        if address == self.management {
            self.expect_flr();
        }
        self.sysfs(&format!("/sys/bus/pci/devices/{address}/reset"), "1")
    }

    /// Finds what was removed.
    pub(crate) fn rescan(&self) -> Result<()> {
        self.sysfs("/sys/bus/pci/rescan", "1")
    }

    pub(crate) fn bind_management(&self) -> Result<()> {
        self.host.bind(&self.management, "dlr-mgmt")
    }

    /// Starts a write to a file of sysfs that has to block. Returns when `waiters` threads are in this
    /// function of the kernel.
    pub(crate) fn blocked(
        &self,
        path: &str,
        text: &str,
        function: &str,
        waiters: usize,
    ) -> Result<Program> {
        let command = format!("echo {text} > {path}");
        let mut program = self.host.spawn(&command)?;
        self.until_in(function, waiters).context(command.clone())?;
        ensure!(
            program.poll()?,
            "`{command}` did not wait for the device's user"
        );
        Ok(program)
    }

    /// Waits until so many threads are in this function of the kernel.
    pub(crate) fn until_in(&self, function: &str, threads: usize) -> Result<()> {
        const STACKS: &str = "cat /proc/[0-9]*/stack 2>/dev/null || true";
        let begin = Instant::now();
        loop {
            let found = self.host.run(STACKS)?.matches(function).count();
            if found >= threads {
                return Ok(());
            }
            ensure!(
                begin.elapsed() < PATIENCE,
                "{found} threads are in {function}(), in place of {threads}"
            );
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Waits for one.
    pub(crate) fn unblocked(&self, mut program: Program) -> Result<()> {
        let output = program
            .wait(PATIENCE)
            .context("still waits for a device that was closed")?;
        ensure!(output.success(), "{}", output.ending());
        Ok(())
    }

    /// Kills the user of the last function, whatever the kernel does for them.
    pub(crate) fn kill_last(&mut self) -> Result<()> {
        let drive = self.drives.pop().context("nobody is left")?;
        drive.kill()
    }

    /// References to the module.
    pub(crate) fn users(&self) -> Result<u32> {
        let text = self.host.run("cat /sys/module/dlr_vfio_pci/refcnt")?;
        text.trim().parse().context("refcnt")
    }

    /// Whether the module can be unloaded now.
    pub(crate) fn unload(&self) -> Result<bool> {
        let output = self.host.try_run("rmmod dlr_vfio_pci", PATIENCE)?;
        Ok(output.success())
    }

    /// Judges the kernel log of a box that was switched off.
    pub(crate) fn ended(self) -> Result<()> {
        self.host.check_log()?;
        self.host.wait()
    }

    /// Ends the programs, unloads the module, and judges the kernel log.
    pub(crate) fn finish(mut self) -> Result<()> {
        for drive in self.drives.drain(..) {
            drive.quit()?;
        }
        let flrs = self.nic(&json!({"cmd": "stats"}))?["flrs"].clone();
        ensure!(
            flrs == self.flrs.get(),
            "{flrs} FLRs of the management function, {} expected",
            self.flrs.get()
        );
        ensure!(self.users()? == 0, "references to the module are left");
        ensure!(self.unload()?, "the module cannot be unloaded");
        self.host.finish()
    }
}
