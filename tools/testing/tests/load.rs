// SPDX-License-Identifier: Apache-2.0 OR MIT

//! As many functions as a NIC may have, all with a log at the same time: each REPORT has the pages
//! of its own function and no other, also when the rings are drained late and interrupts are lost.

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::{ensure, Context, Result};
use dlr_testing::{drive::Drive, BoxConfig, HostBox, NicConfig, Placement};
use serde_json::{json, Value};

/// The most that one NIC has.
const FUNCTIONS: u16 = 64;
/// How long the box may take to come up: it has a root port for each function.
const BOOT: Duration = Duration::from_secs(600);
/// Log2 of the entries of a ring; a quarter of them raises the interrupt.
const RING_ORDER: u32 = 5;
/// Entries that a function gets in a part of the test: more than a quarter, fewer than fit.
const ENTRIES: u64 = 20;
/// What each log tracks.
const TRACKED: &str = "0+1G";
/// From an entry of a function to its next one, in pages: [`ENTRIES`] of them are in the range.
const STRIDE: u64 = 8192;
/// From the pages of a function to those of the next one: all of them fit into a stride.
const OWN: u64 = 64;
/// How long all functions may take for a call.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long is waited for what must not happen.
const WHILE: Duration = Duration::from_millis(500);
/// What all logs and open devices may take of the memory of the box.
const MOST_MEMORY_KIB: u64 = 64 << 10;

/// See the module.
struct Load {
    host: HostBox,
    management: String,
    data: Vec<String>,
    drives: Vec<Drive>,
}

/// The pages that function `function` writes in part `part` of the test.
fn pages(function: usize, part: u64) -> Vec<u64> {
    let first = function as u64 * OWN + part * 16;
    (0..ENTRIES).map(|n| n * STRIDE + first + n % 8).collect()
}

/// One more page of a function, so that a REPORT has something to write.
fn mark(function: usize) -> u64 {
    function as u64 * OWN + OWN - 1
}

impl Load {
    fn new() -> Result<Self> {
        let nic = NicConfig::new(FUNCTIONS).placed(Placement::RootPorts);
        let mut config = BoxConfig::for_test().nic(nic);
        config.boot_limit = BOOT;
        let host = HostBox::start(config)?;
        host.load_driver(&format!("log_ring_order={RING_ORDER}"))?;
        let mut data = host.addresses(0)?;
        let management = data.remove(0);
        host.bind(&management, "dlr-mgmt")?;
        let bound = host.run(&format!(
            "cd /sys/bus/pci && for f in {}; do \
             [ ! -e devices/$f/driver ] || echo $f > devices/$f/driver/unbind; \
             echo dlr_vfio_pci > devices/$f/driver_override && \
             echo $f > drivers_probe || exit 1; done; \
             ls -d drivers/dlr_vfio_pci/0000:* | wc -l",
            data.join(" ")
        ))?;
        ensure!(bound.trim() == FUNCTIONS.to_string(), "{bound} are bound");
        let drives = data.iter().map(|address| Drive::start(&host, address));
        let drives = drives.collect::<Result<_>>()?;
        Ok(Self {
            host,
            management,
            data,
            drives,
        })
    }

    /// Begins a call on each function. Returns its jobs.
    fn begin(&mut self, call: impl Fn(usize) -> Value) -> Result<Vec<u64>> {
        let drives = self.drives.iter_mut().enumerate();
        drives.map(|(f, drive)| drive.begin(call(f))).collect()
    }

    /// Waits until these calls have succeeded. Returns their answers.
    fn end(&mut self, jobs: &[u64]) -> Result<Vec<Value>> {
        let begin = Instant::now();
        let mut answers = Vec::new();
        for (function, (drive, job)) in self.drives.iter_mut().zip(jobs).enumerate() {
            let left = PATIENCE.saturating_sub(begin.elapsed());
            let answer = drive.wait(*job, left)?;
            let answer = answer.with_context(|| format!("function {function} does not end"))?;
            ensure!(answer["ok"] == true, "function {function}: {answer}");
            answers.push(answer);
        }
        Ok(answers)
    }

    /// Makes a call on all functions at the same time.
    fn all(&mut self, call: impl Fn(usize) -> Value) -> Result<Vec<Value>> {
        let jobs = self.begin(call)?;
        self.end(&jobs)
    }

    /// The NIC posts entries, those of all functions in turn.
    fn post_pages(&self, pages: impl Fn(usize) -> Vec<u64>) -> Result<()> {
        let all: Vec<_> = (0..self.data.len()).map(pages).collect();
        for n in 0..all.first().map_or(0, Vec::len) {
            for (function, pages) in all.iter().enumerate() {
                let entry = json!({"write": pages[n] << 12});
                let request = json!({"cmd": "log-entry", "function": function, "entry": entry});
                self.host.nic(0)?.control(&request)?;
            }
        }
        Ok(())
    }

    /// The NIC posts the entries of a part.
    fn post(&self, part: u64) -> Result<()> {
        self.post_pages(|function| pages(function, part))
    }

    /// What the driver shows under `name` of each log.
    fn shown(&self, name: &str) -> Result<Vec<u64>> {
        let text = self.host.run(&format!(
            "cd /sys/kernel/debug/dlr_vfio_pci && for f in {}; do \
             while read key value; do [ $key != {name} ] || echo $value; done < $f/log; done",
            self.data.join(" ")
        ))?;
        let values = text.lines().map(|line| line.trim().parse());
        let values: Vec<u64> = values.collect::<Result<_, _>>().context(text.clone())?;
        ensure!(values.len() == self.data.len(), "{name}: {text}");
        Ok(values)
    }

    /// Each log has the pages of this part, and those of its own function only.
    fn judge(&mut self, part: u64) -> Result<()> {
        let answers =
            self.all(|function| json!({"cmd": "report-pages", "pages": pages(function, part)}))?;
        for (function, answer) in answers.iter().enumerate() {
            ensure!(answer["dirty"] == ENTRIES, "function {function}: {answer}");
        }
        self.nothing_else()
    }

    /// No log has a page that was not reported.
    fn nothing_else(&mut self) -> Result<()> {
        let answers = self.all(|_| json!({"cmd": "report", "range": TRACKED}))?;
        for (function, answer) in answers.iter().enumerate() {
            ensure!(
                answer["dirty"] == 0,
                "function {function} has more: {answer}"
            );
        }
        Ok(())
    }

    /// Switches the interrupts of the management function on or off, behind the driver's back
    /// (bit 15 of Message Control).
    fn interrupts(&self, on: bool) -> Result<()> {
        let bit = if on { "8000" } else { "0000" };
        let of = &self.management;
        self.host
            .run(&format!("setpci -s {of} CAP_MSIX+2.w={bit}:8000"))
            .map(drop)
    }

    /// The NIC posts the entries of a part, and the interrupts drain them without a REPORT.
    fn post_drained(&self, part: u64) -> Result<()> {
        let before = self.shown("entries")?;
        self.post(part)?;
        let begin = Instant::now();
        loop {
            let now = self.shown("entries")?;
            // The interrupt comes with a quarter of the ring: the last entries may be left.
            let least = ENTRIES - (1 << RING_ORDER) / 4;
            let mut logs = now.iter().zip(&before);
            if logs.all(|(now, old)| *now >= old + least) {
                return Ok(());
            }
            ensure!(begin.elapsed() < PATIENCE, "{before:?}, then {now:?}");
            thread::sleep(Duration::from_millis(100));
        }
    }

    fn available_kib(&self) -> Result<u64> {
        let text = self.host.run("grep MemAvailable /proc/meminfo")?;
        let value = text.split_whitespace().nth(1).context("no value")?;
        value.parse().context("no number")
    }
}

#[test]
fn sixty_four_functions_log_at_the_same_time() -> Result<()> {
    let mut load = Load::new()?;
    let before = load.available_kib()?;
    load.all(|_| json!({"cmd": "open"}))?;
    load.all(|_| json!({"cmd": "log-start", "ranges": [TRACKED]}))?;

    // With interrupts: each function's own one drains its ring, before any REPORT.
    load.post_drained(0)?;
    load.judge(0)?;

    // Without: nothing drains a ring before the REPORT does, or the interrupts that come late.
    let start = load.shown("entries")?;
    load.interrupts(false)?;
    load.post(1)?;
    thread::sleep(WHILE);
    let late = load.shown("entries")?;
    ensure!(late == start, "drained nevertheless: {start:?}, {late:?}");
    load.interrupts(true)?;
    load.judge(1)?;

    // While all REPORTs sleep in a fault of their bitmap, no interrupt drains a ring either.
    load.post_pages(|function| vec![mark(function)])?;
    let held = load.begin(|_| json!({"cmd": "report", "range": TRACKED, "held": true}))?;
    // Their markers have come by then.
    thread::sleep(4 * WHILE);
    for (function, job) in held.iter().enumerate() {
        let waits = load.drives[function].wait(*job, Duration::ZERO)?.is_none();
        ensure!(waits, "the REPORT of function {function} did not wait");
    }
    let start = load.shown("entries")?;
    load.post(2)?;
    thread::sleep(WHILE);
    let late = load.shown("entries")?;
    ensure!(late == start, "drained nevertheless: {start:?}, {late:?}");
    for drive in &mut load.drives {
        drive.ok(&json!({"cmd": "release"}))?;
    }
    for (function, answer) in load.end(&held)?.iter().enumerate() {
        ensure!(answer["dirty"] == 1, "function {function}: {answer}");
    }
    load.judge(2)?;

    // The interrupts work as before.
    load.post_drained(3)?;
    load.judge(3)?;

    let lost = load.shown("lost_count")?;
    ensure!(lost.iter().all(|count| *count == 0), "losses: {lost:?}");
    let used = before.saturating_sub(load.available_kib()?);
    eprintln!("{used} KiB of the box's memory for {FUNCTIONS} logs");
    ensure!(used < MOST_MEMORY_KIB, "{used} KiB of memory");
    load.all(|_| json!({"cmd": "log-stop"}))?;
    load.all(|_| json!({"cmd": "close"}))?;
    let management = load.management.clone();
    load.host.check_idle(0, &management)?;
    for drive in load.drives.drain(..) {
        drive.quit()?;
    }
    load.host.finish()
}
