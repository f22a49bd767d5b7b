// SPDX-License-Identifier: Apache-2.0 OR MIT

//! Save and load sessions: what stays behind when an answer of the NIC is lost or a session ends
//! early, and what poll() says (contract D9, D10, D19, R5, S8; review H3, H4, M6, M25).

use std::time::Duration;

use anyhow::{ensure, Context, Result};
use dlr_testing::{drive::Drive, BoxConfig, HostBox, NicConfig};
use serde_json::{json, Value};

/// Longest time of a command that the NIC is started with, milliseconds.
const TIMEOUT_MS: u64 = 1500;
/// Sessions of the test of their memory.
const ROUNDS: usize = 200;

/// A box with one NIC of one function, and that function opened.
struct Bench {
    host: HostBox,
    management: String,
    drive: Drive,
}

impl Bench {
    fn new(parameters: &str) -> Result<Self> {
        let nic = NicConfig::new(1).args(vec![format!("--cmd-timeout={TIMEOUT_MS}")]);
        let host = HostBox::start(BoxConfig::for_test().nic(nic))?;
        host.load_driver(parameters)?;
        let management = host.addresses(0)?.remove(0);
        let data = host.bind_dlr(0)?.remove(0);
        let mut drive = Drive::start(&host, &data)?;
        drive.open()?;
        Ok(Self {
            host,
            management,
            drive,
        })
    }

    /// A request to the NIC.
    fn nic(&self, request: &Value) -> Result<Value> {
        self.host.nic(0)?.control(request)
    }

    /// The next command of this kind suffers.
    fn fault(&self, opcode: &str, action: &Value) -> Result<()> {
        self.nic(&json!({"cmd": "fault", "opcode": opcode, "action": action}))
            .map(drop)
    }

    /// A number of the management function's debugfs file.
    fn in_use(&self, name: &str) -> Result<u64> {
        let file = format!("/sys/kernel/debug/dlr_vfio_pci/{}/stats", self.management);
        let text = self.host.read_file(&file)?;
        let text = String::from_utf8_lossy(&text).into_owned();
        let line = text.lines().find_map(|l| l.strip_prefix(name));
        let value = line.with_context(|| format!("no {name} in {text}"))?;
        Ok(value.trim().parse()?)
    }

    /// The function can be saved and then runs, without a reset.
    fn migrates(&mut self) -> Result<()> {
        self.drive.go("PRE_COPY")?;
        self.drive.go("STOP_COPY")?;
        let read = self.drive.ok(&json!({"cmd": "read"}))?;
        ensure!(read["end"] == true, "{read}");
        self.drive.go("RUNNING")?;
        self.drive.ok(&json!({"cmd": "forget"})).map(drop)
    }

    /// Nothing is left over, in the driver or in the device.
    fn finish(mut self) -> Result<()> {
        self.drive.close()?;
        self.drive.quit()?;
        self.host.check_idle(0, &self.management)?;
        self.host.finish()
    }
}

/// H4. Without the mend: RUNNING, then EBUSY from each PRE_COPY; STOP, then EINVAL from RUNNING;
/// EBUSY from each PRE_COPY.
#[test]
fn h4_an_answer_that_is_lost_leaves_a_function_that_migrates() -> Result<()> {
    let mut bench = Bench::new("")?;
    bench.drive.go("PRE_COPY")?;
    bench.fault("save-end", &json!("ignore"))?;
    // There is no way back: the arc is taken.
    bench.drive.go("RUNNING")?;
    bench.drive.ok(&json!({"cmd": "forget"}))?;
    bench.migrates().context("after SAVE_END was ignored")?;

    bench.drive.go("STOP")?;
    bench.fault("load-begin", &json!("drop"))?;
    let errno = bench.drive.set("RESUMING")?;
    ensure!(errno == "ETIMEDOUT", "LOAD_BEGIN without answer: {errno}");
    ensure!(bench.drive.state()? == "STOP", "{}", bench.drive.state()?);
    bench.drive.go("RUNNING")?;
    bench.migrates().context("after LOAD_BEGIN had no answer")?;

    bench.fault("save-begin", &json!("drop"))?;
    let errno = bench.drive.set("PRE_COPY")?;
    ensure!(errno == "ETIMEDOUT", "SAVE_BEGIN without answer: {errno}");
    bench.migrates().context("after SAVE_BEGIN had no answer")?;

    // The settling suffers as well.
    bench.drive.go("PRE_COPY")?;
    bench
        .nic(&json!({"cmd": "fault", "opcode": "save-end", "action": {"status": 9}, "count": 2}))?;
    bench.drive.go("RUNNING")?;
    bench.drive.ok(&json!({"cmd": "forget"}))?;
    let errno = bench.drive.set("PRE_COPY")?;
    ensure!(
        errno == "EIO",
        "SAVE_BEGIN that cannot be settled for: {errno}"
    );
    bench
        .migrates()
        .context("after SAVE_END was refused twice")?;
    bench.finish()
}

/// H3. Without the mend each round keeps two buffers, 512 KiB.
#[test]
fn h3_ended_sessions_keep_no_dma_memory() -> Result<()> {
    let mut bench = Bench::new("")?;
    let idle = bench.in_use("buffers")?;
    for (state, rounds) in [("RESUMING", ROUNDS), ("PRE_COPY", 20)] {
        for _ in 0..rounds {
            bench.drive.go(state)?;
            if state == "RESUMING" {
                // A section that has only begun.
                bench.drive.ok(&json!({"cmd": "write", "hex": "44"}))?;
            }
            bench.drive.ok(&json!({"cmd": "reset"}))?;
        }
        let now = bench.in_use("buffers")?;
        ensure!(
            now == idle,
            "{now} buffers after {rounds} sessions, {idle} before"
        );
    }
    let status = bench.drive.ok(&json!({"cmd": "status"}))?;
    let files = status["files"].as_array().map_or(0, Vec::len);
    ensure!(files == ROUNDS + 20, "{files} files are open");
    bench.finish()
}

/// H3. The buffers of a session are charged to the memory cgroup of who opens it, until it ends.
#[test]
fn h3_buffers_are_charged_until_the_session_ends() -> Result<()> {
    const MIB: u64 = 1 << 20;
    // A cgroup is charged in advance, for each processor (MEMCG_CHARGE_BATCH in mm/memcontrol.c).
    const BATCHES: u64 = 2 * 64 * 4096;
    let mut bench = Bench::new("save_buffers=4 save_buffer_kib=4096")?;
    let host = &bench.host;
    host.run(
        "mkdir -p /tmp/cg && mount -t cgroup2 none /tmp/cg && \
         echo +memory > /tmp/cg/cgroup.subtree_control && mkdir /tmp/cg/user",
    )?;
    let pid = bench.drive.pid();
    host.run(&format!("echo {pid} > /tmp/cg/user/cgroup.procs"))?;
    let charged = |host: &HostBox| -> Result<u64> {
        let text = host.run("cat /tmp/cg/user/memory.current")?;
        text.trim().parse().context("no number")
    };
    // What the program itself needs for it is there after the first time.
    bench.migrates()?;
    let sessions = [
        // Four buffers of 4 MiB, and two of 256 KiB.
        ("PRE_COPY", 16 * MIB),
        ("RESUMING", MIB / 2),
    ];
    for (state, bytes) in sessions {
        let before = charged(&bench.host)?;
        bench.drive.go(state)?;
        let open = charged(&bench.host)?;
        let least = before + bytes.saturating_sub(BATCHES / 2);
        let most = before + bytes + BATCHES + MIB;
        ensure!(
            (least..most).contains(&open),
            "{state}: {before} bytes, then {open}, for {bytes} bytes of buffers"
        );
        bench.drive.ok(&json!({"cmd": "reset"}))?;
        bench.drive.ok(&json!({"cmd": "forget"}))?;
        let after = charged(&bench.host)?;
        ensure!(
            after < before + bytes.min(BATCHES + MIB),
            "{state}: {before} bytes, and {after} when it had ended"
        );
    }
    bench.finish()
}

/// Mutant M25: the NIC forgets a session that the driver has refused a write of.
#[test]
fn m25_a_refused_write_ends_the_session_on_the_device() -> Result<()> {
    let mut bench = Bench::new("")?;
    bench.drive.go("RESUMING")?;
    let before = bench.nic(&json!({"cmd": "stats"}))?;
    ensure!(session(&before) == "load", "{before}");
    let errno = bench
        .drive
        .errno(&json!({"cmd": "write", "hex": "00".repeat(64)}))?;
    ensure!(errno == "EINVAL", "garbage is {errno}");
    let after = bench.nic(&json!({"cmd": "stats"}))?;
    ensure!(session(&after) == "none", "{after}");
    bench.drive.ok(&json!({"cmd": "reset"}))?;
    bench.migrates()?;
    bench.finish()
}

/// What session the NIC says that function 0 has.
fn session(stats: &Value) -> &str {
    stats["functions"][0]["session"].as_str().unwrap_or("?")
}

/// M6. Without the mend poll() sleeps until the state changes.
#[test]
fn m6_poll_wakes_in_pre_copy_when_there_is_more() -> Result<()> {
    let mut bench = Bench::new("")?;
    bench.drive.go("PRE_COPY")?;
    let read = bench.drive.errno(&json!({"cmd": "read"}))?;
    ensure!(read == "ENOMSG", "read in PRE_COPY: {read}");
    let idle = bench.drive.ok(&json!({"cmd": "poll", "timeout_ms": 500}))?;
    ensure!(idle["events"] == json!([]), "nothing to read: {idle}");
    for _ in 0..2 {
        let job = bench
            .drive
            .begin(json!({"cmd": "poll", "timeout_ms": 60_000}))?;
        let early = bench.drive.wait(job, Duration::from_millis(300))?;
        ensure!(early.is_none(), "poll() does not wait: {early:?}");
        bench.nic(&json!({"cmd": "packet", "function": 0}))?;
        let woken = bench.drive.wait(job, Duration::from_secs(20))?;
        let woken = woken.context("poll() sleeps though there is more to read")?;
        ensure!(woken["events"] == json!(["IN"]), "{woken}");
        let read = bench.drive.ask(&json!({"cmd": "read"}))?;
        ensure!(read["bytes"].as_u64() > Some(0), "{read}");
    }
    bench.drive.go("RUNNING")?;
    bench.finish()
}

/// M6. Without the mend poll() says readable for as long as the reads are in flight.
#[test]
fn m6_poll_is_quiet_while_reads_are_in_flight() -> Result<()> {
    // Small buffers: even a small image takes several reads.
    let mut bench = Bench::new("save_buffer_kib=4")?;
    bench.drive.go("STOP")?;
    bench.nic(
        &json!({"cmd": "fault", "opcode": "save-read", "action": {"delay": 400}, "count": 3}),
    )?;
    bench.drive.go("STOP_COPY")?;
    let drained = bench.drive.ok(&json!({"cmd": "poll-read"}))?;
    ensure!(drained["end"] == true, "{drained}");
    ensure!(drained["bytes"].as_u64() > Some(0), "{drained}");
    ensure!(
        drained["again"].as_u64() > Some(0),
        "never waited: {drained}"
    );
    ensure!(drained["spurious"] == 0, "the reader spins: {drained}");
    bench.drive.go("RUNNING")?;
    bench.finish()
}

/// L8, contract D9. Without the mend the reader sleeps uninterruptibly (state D), and is stopped
/// only when the device has answered.
#[test]
fn l8_a_signal_ends_the_wait_of_a_read() -> Result<()> {
    let mut bench = Bench::new("")?;
    bench.drive.go("STOP")?;
    bench.fault("save-read", &json!({"delay": 1200}))?;
    bench.drive.go("STOP_COPY")?;
    let job = bench.drive.begin(json!({"cmd": "read"}))?;
    let pid = bench.drive.pid();
    bench.host.run(&format!("sleep 0.2; kill -STOP {pid}"))?;
    let states = bench.host.run(&format!(
        "sleep 0.2; cut -d ' ' -f 3 /proc/{pid}/task/*/stat; kill -CONT {pid}"
    ))?;
    ensure!(
        states.split_whitespace().all(|state| state == "T"),
        "not all threads have stopped: {states}"
    );
    // The call is restarted, and nothing is lost.
    let read = bench.drive.wait(job, Duration::from_secs(20))?;
    let read = read.context("the read hangs")?;
    ensure!(
        read["end"] == true && read["bytes"].as_u64() > Some(0),
        "{read}"
    );
    bench.drive.go("RUNNING")?;
    bench.finish()
}
