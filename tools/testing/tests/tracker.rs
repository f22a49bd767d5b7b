// SPDX-License-Identifier: Apache-2.0 OR MIT

//! The dirty log cannot lie: what the NIC named is reported, though reports are cut short,
//! and no thread of the kernel waits for the memory of a report's user.

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::{ensure, Context, Result};
use dlr_testing::{drive::Drive, BoxConfig, HostBox};
use serde_json::{json, Value};

/// What a call may take that must not wait for a report's user.
const SOON: Duration = Duration::from_secs(30);
/// How long a call is watched that has to stay blocked.
const WHILE: Duration = Duration::from_millis(500);
/// Pages in the range of the log.
const PAGES: u64 = 1 << 18;
/// Bytes of which the driver's bitmap takes memory at a time.
const CHUNK: u64 = 32 << 20;

fn start(parameters: &str, functions: u16) -> Result<(HostBox, String, Vec<String>)> {
    let host = HostBox::start(BoxConfig::for_test().functions(functions))?;
    host.load_driver(parameters)?;
    let management = host.addresses(0)?.remove(0);
    let data = host.bind_dlr(0)?;
    Ok((host, management, data))
}

fn logging(host: &HostBox, address: &str) -> Result<(Drive, Value)> {
    let mut drive = Drive::start(host, address)?;
    let opened = drive.ok(&json!({"cmd": "open"}))?;
    drive.ok(&json!({"cmd": "log-start", "ranges": ["0+1G"]}))?;
    Ok((drive, opened))
}

/// The NIC posts an entry.
fn post(host: &HostBox, function: usize, entry: &Value) -> Result<()> {
    let request = json!({"cmd": "log-entry", "function": function, "entry": entry});
    host.nic(0)?.control(&request).map(drop)
}

/// The NIC posts its entry `n` to a function's ring of 256. After each 64 entries, which raise the interrupt,
/// this waits for the driver: on a busy machine the ring would overflow. What the interrupt left is
/// drained by the next one.
fn post_drained(
    host: &HostBox,
    (function, address): (usize, &str),
    n: u64,
    entry: &Value,
) -> Result<()> {
    post(host, function, entry)?;
    if n % 64 != 63 {
        return Ok(());
    }
    wait_until(
        "drained",
        || Ok(shown(host, address, "entries")? + 128 >= n),
    )
}

/// Dirty pages of a REPORT of this range.
fn dirty(drive: &mut Drive, range: &str) -> Result<u64> {
    let answer = drive.ok(&json!({"cmd": "report", "range": range}))?;
    answer["dirty"].as_u64().context("no count")
}

/// A value of the log's file in debugfs.
fn shown(host: &HostBox, address: &str, name: &str) -> Result<u64> {
    let command = format!("cat /sys/kernel/debug/dlr_vfio_pci/{address}/log");
    let output = host.try_run(&command, SOON)?;
    ensure!(output.success(), "`{command}` {}", output.ending());
    let text = output.text();
    let mut lines = text.lines().filter_map(|l| l.split_once(' '));
    let value = lines.find(|(key, _)| *key == name);
    let (_, value) = value.with_context(|| format!("no {name} in {text}"))?;
    value.trim().parse().context("no number")
}

/// Waits for a value.
fn wait_until(what: &str, mut holds: impl FnMut() -> Result<bool>) -> Result<()> {
    let end = Instant::now() + SOON;
    while !holds()? {
        ensure!(Instant::now() < end, "{what}: not within {SOON:?}");
        thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

/// Many reports of single pages between two losses: C1 of the review, through the user's interface
/// alone.
#[test]
fn c1_a_loss_after_many_small_reports() -> Result<()> {
    let (host, _, data) = start("", 1)?;
    let (mut drive, _) = logging(&host, &data[0])?;
    post(&host, 0, &json!("lost"))?;
    // Even pages, rising, not evenly spaced.
    let pages: Vec<u64> = (0..5200).map(|n| n * 50 + n % 7 * 2).collect();
    let odd = pages[5000] + 1;
    let answer = drive.ok(&json!({"cmd": "report-pages", "pages": pages}))?;
    ensure!(answer["dirty"] == 5200, "{answer}");
    post(&host, 0, &json!("lost"))?;
    let answer = drive.ok(&json!({"cmd": "report-pages", "pages": [odd]}))?;
    ensure!(answer["dirty"] == 1, "{answer}");
    let left = dirty(&mut drive, "0+1G")?;
    ensure!(
        left == PAGES - 1,
        "{left} pages are dirty, not {}",
        PAGES - 1
    );
    ensure!(dirty(&mut drive, "0+1G")? == 0, "all was reported");
    drive.quit()?;
    host.finish()
}

/// A report that sleeps in a fault of its bitmap holds up neither the log of another function, nor
/// debugfs, nor the interrupt of its ring, nor the unbinding of the management function. The driver does
/// not drain its ring, which is full from some moment on.
#[test]
fn h2_a_report_in_a_fault_holds_up_nothing() -> Result<()> {
    let (host, management, data) = start("log_ring_order=4", 2)?;
    let (mut held, _) = logging(&host, &data[0])?;
    let (mut other, _) = logging(&host, &data[1])?;
    post(&host, 0, &json!({"write": 0x3000}))?;
    let job = held.begin(json!({"cmd": "report", "range": "0+1G", "held": true}))?;
    ensure!(held.wait(job, WHILE)?.is_none(), "the report did not wait");
    // The ring of the same function fires, more than once.
    for page in 0..12u64 {
        post(&host, 0, &json!({"write": 0x10_0000 + (page << 12)}))?;
    }
    shown(&host, &data[0], "reports")?;
    // A ring of sixteen: the last entry is LOST.
    let log = |host: &HostBox| -> Result<Value> {
        let stats = host.nic(0)?.control(&json!({"cmd": "stats"}))?;
        Ok(stats["functions"][0]["log"].clone())
    };
    for page in 12..32u64 {
        post(&host, 0, &json!({"write": 0x10_0000 + (page << 12)}))?;
    }
    let full = |log: &Value| log["used"].as_u64() >= Some(15);
    let before = log(&host)?;
    ensure!(full(&before), "the ring is drained: {before}");
    for page in 0..20u64 {
        post(&host, 1, &json!({"write": page << 12}))?;
        let seen = dirty(&mut other, "0+1G")?;
        ensure!(seen == 1, "{seen} pages of the other function, not one");
    }
    let after = log(&host)?;
    ensure!(after["used"] == before["used"], "{before}, then {after}");
    ensure!(held.wait(job, WHILE)?.is_none(), "the report did not wait");
    let unbind = format!("echo {management} > /sys/bus/pci/devices/{management}/driver/unbind");
    let output = host.try_run(&unbind, SOON)?;
    ensure!(output.success(), "`{unbind}` {}", output.ending());
    ensure!(held.wait(job, WHILE)?.is_none(), "the report did not wait");
    held.ok(&json!({"cmd": "release"}))?;
    let answer = held.wait(job, SOON)?.context("the report does not end")?;
    ensure!(answer["ok"] == true && answer["dirty"] == 1, "{answer}");
    for _ in 0..2 {
        let errno = held.errno(&json!({"cmd": "report", "range": "0+1G"}))?;
        ensure!(errno == "ENOTCONN", "then {errno}");
    }
    held.quit()?;
    other.quit()?;
    host.finish()
}

/// What the interrupt could not drain while a report slept in a fault is drained when the report
/// has ended.
#[test]
fn h2_the_report_drains_what_the_interrupt_could_not() -> Result<()> {
    let (host, _, data) = start("log_ring_order=4", 1)?;
    let (mut drive, _) = logging(&host, &data[0])?;
    post(&host, 0, &json!({"write": 0x3000}))?;
    let job = drive.begin(json!({"cmd": "report", "range": "0+1G", "held": true}))?;
    ensure!(drive.wait(job, WHILE)?.is_none(), "the report did not wait");
    let before = shown(&host, &data[0], "entries")?;
    for page in 0..8u64 {
        post(&host, 0, &json!({"write": 0x10_0000 + (page << 13)}))?;
    }
    thread::sleep(WHILE);
    drive.ok(&json!({"cmd": "release"}))?;
    let answer = drive.wait(job, SOON)?.context("the report does not end")?;
    ensure!(answer["dirty"] == 1, "rule 4: {answer}");
    wait_until("drained", || {
        Ok(shown(&host, &data[0], "entries")? >= before + 8)
    })?;
    ensure!(dirty(&mut drive, "0+1G")? == 8, "the others");
    drive.quit()?;
    host.finish()
}

/// A report whose thread is killed in a fault of its bitmap has told its user nothing, and clears
/// nothing: another process that holds the device too is told.
#[test]
fn m2_a_killed_report_clears_nothing() -> Result<()> {
    let (host, _, data) = start("", 1)?;
    let (mut owner, opened) = logging(&host, &data[0])?;
    let mut second = Drive::start(&host, &data[0])?;
    for page in [3u64, 9, 100_000, 200_000] {
        post(&host, 0, &json!({"write": page << 12}))?;
    }
    let of = json!([owner.pid(), opened["fd"]]);
    let call = json!({"cmd": "report", "range": "0+1G", "held": true, "of": of});
    let job = second.begin(call)?;
    ensure!(
        second.wait(job, WHILE)?.is_none(),
        "the report did not wait"
    );
    second.kill()?;
    let left = dirty(&mut owner, "0+1G")?;
    ensure!(left == 4, "{left} of 4 pages");
    ensure!(dirty(&mut owner, "0+1G")? == 0, "all was reported");
    owner.quit()?;
    host.finish()
}

/// A STOP that waits for a report in a fault can be killed, and changes nothing then: its user must not
/// be at the mercy of another one that has the device open.
#[test]
fn l8_a_stop_behind_a_held_report_is_killable() -> Result<()> {
    let (host, _, data) = start("", 1)?;
    let (mut owner, opened) = logging(&host, &data[0])?;
    let mut second = Drive::start(&host, &data[0])?;
    post(&host, 0, &json!({"write": 0x3000}))?;
    let report = owner.begin(json!({"cmd": "report", "range": "0+1G", "held": true}))?;
    ensure!(
        owner.wait(report, WHILE)?.is_none(),
        "the report did not wait"
    );
    let of = json!([owner.pid(), opened["fd"]]);
    let stop = second.begin(json!({"cmd": "log-stop", "of": of}))?;
    ensure!(second.wait(stop, WHILE)?.is_none(), "STOP did not wait");
    second.kill()?;
    ensure!(
        owner.wait(report, WHILE)?.is_none(),
        "the report did not wait"
    );
    owner.ok(&json!({"cmd": "release"}))?;
    let answer = owner
        .wait(report, SOON)?
        .context("the report does not end")?;
    ensure!(answer["ok"] == true && answer["dirty"] == 1, "{answer}");
    post(&host, 0, &json!({"write": 0x5000}))?;
    ensure!(dirty(&mut owner, "0+1G")? == 1, "the log is not as it was");
    owner.ok(&json!({"cmd": "log-stop"}))?;
    owner.quit()?;
    host.finish()
}

/// Bytes of slab that are charged to a cgroup.
fn slab(host: &HostBox, group: &str) -> Result<u64> {
    let stat = host.run(&format!("grep '^slab ' /tmp/cg/{group}/memory.stat"))?;
    let value = stat.split_whitespace().nth(1).context("no slab")?;
    value.parse().context("no number")
}

/// The second function of a box, whose user has memory although that of the first one has reached a
/// limit: a new log marks what was written and nothing else, also what the interrupt's thread drains; that
/// is charged to its own user; and sessions get their buffers.
fn has_memory(host: &HostBox, address: &str, user: &mut Drive) -> Result<()> {
    const FAR: u64 = 512 << 30;
    user.open()?;
    user.ok(&json!({"cmd": "log-start", "ranges": ["0+1T"]}))?;
    let before = slab(host, "other")?;
    let pages: Vec<u64> = (0..512).map(|n| (FAR + n * CHUNK) >> 12).collect();
    for (n, page) in pages.iter().enumerate() {
        let entry = json!({"write": page << 12});
        post_drained(host, (1, address), n as u64, &entry)?;
    }
    wait_until("charged to the other user", || {
        Ok(slab(host, "other")? >= before + 256 * 64)
    })?;
    for (beside, wanted) in [(1, 0), (0, pages.len())] {
        let asked: Vec<u64> = pages.iter().map(|page| page + beside).collect();
        let answer = user.ok(&json!({"cmd": "report-pages", "pages": asked}))?;
        ensure!(
            answer["dirty"] == wanted,
            "of pages {beside} beside those of the other function {wanted} are dirty: {answer}"
        );
    }
    for state in ["PRE_COPY", "STOP_COPY"] {
        user.go(state)?;
    }
    let read = user.ok(&json!({"cmd": "read", "save": "image"}))?;
    ensure!(read["end"] == true, "{read}");
    for state in ["STOP", "RESUMING"] {
        user.go(state)?;
    }
    user.ok(&json!({"cmd": "write", "saved": "image"}))?;
    for state in ["STOP", "RUNNING"] {
        user.go(state)?;
    }
    Ok(())
}

/// The memory of a log is charged to the cgroup of who started it, also what the interrupt's thread
/// takes; at the limit of the cgroup more is marked, nothing is lost and nothing is killed. Another
/// user of the NIC notices nothing.
#[test]
fn m5_at_the_limit_of_the_cgroup_more_is_marked() -> Result<()> {
    let (host, _, data) = start("log_ring_order=8", 2)?;
    let mut drive = Drive::start(&host, &data[0])?;
    let mut other = Drive::start(&host, &data[1])?;
    host.run(
        "mkdir -p /tmp/cg && mount -t cgroup2 none /tmp/cg && \
         echo +memory > /tmp/cg/cgroup.subtree_control && \
         mkdir /tmp/cg/log /tmp/cg/rest /tmp/cg/other",
    )?;
    host.run(&format!(
        "echo {} > /tmp/cg/other/cgroup.procs",
        other.pid()
    ))?;
    let pid = drive.pid();
    host.run(&format!("echo {pid} > /tmp/cg/log/cgroup.procs"))?;
    drive.open()?;
    drive.ok(&json!({"cmd": "log-start", "ranges": ["0+1T"]}))?;
    // From here on only the log is charged.
    host.run(&format!("echo {pid} > /tmp/cg/rest/cgroup.procs"))?;
    // In a part of the range that no report asks about, so that the interrupt drains it.
    let far = |n: u64| json!({"write": (512 << 30) + n * CHUNK});
    let before = slab(&host, "log")?;
    for n in 0..512 {
        post_drained(&host, (0, &data[0]), n, &far(n))?;
    }
    // A chunk with one granule takes 64 bytes.
    wait_until("charged", || Ok(slab(&host, "log")? >= before + 256 * 64))?;
    host.run("cat /tmp/cg/log/memory.current > /tmp/cg/log/memory.max")?;
    let events = |name: &str| -> Result<u64> {
        let events = host.run("cat /tmp/cg/log/memory.events")?;
        let mut lines = events.lines().filter_map(|l| l.split_once(' '));
        let value = lines.find(|(key, _)| *key == name).context("no event")?.1;
        value.parse().context("no number")
    };
    // A cgroup is charged in advance, for each processor (MEMCG_CHARGE_BATCH in mm/memcontrol.c):
    // how many chunks fit below the limit is seen, not known.
    let page = |n: u64| (n * CHUNK + 0x5000) >> 12;
    let mut pages = Vec::new();
    while events("max")? == 0 {
        ensure!(pages.len() < 16384, "the limit was not reached");
        for n in pages.len() as u64..pages.len() as u64 + 1024 {
            let entry = json!({"write": page(n) << 12});
            post_drained(&host, (0, &data[0]), 512 + n, &entry)?;
            pages.push(page(n));
        }
    }
    has_memory(&host, &data[1], &mut other)?;
    let answer = drive.ok(&json!({"cmd": "report-pages", "pages": pages}))?;
    ensure!(answer["dirty"] == pages.len(), "{answer}");
    ensure!(shown(&host, &data[0], "lost_count")? == 0, "a loss");
    ensure!(events("oom")? == 0, "the OOM killer was called");
    ensure!(events("oom_kill")? == 0, "a process was killed");
    drive.quit()?;
    other.quit()?;
    host.finish()
}
