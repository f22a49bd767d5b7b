// SPDX-License-Identifier: Apache-2.0 OR MIT

//! The machine sleeps or goes while a function is migrated under traffic (review H6): frames come in and
//! are written to memory all the time, and the log is on.

use std::{
    thread::sleep,
    time::{Duration, Instant, SystemTime},
};

use anyhow::{ensure, Context, Result};
use dlr_testing::{agent::Program, BoxConfig, HostBox, NicConfig};
use serde_json::{json, Value};

use super::{
    bench::PATIENCE,
    citizen::{debugfs, resets},
};

/// Huge pages for two virtual machines of 32 MiB.
const HUGE_PAGES: u32 = 40;
/// Migrations of one run, and how many rounds of pre-copy one has at least: more than two seconds.
const CYCLES: usize = 5;
const ROUNDS: u32 = 20;
/// Frames a second that come in even while the guest sleeps: they use up the buffers of its queue, which
/// are 256, more slowly than the system sleeps.
const RATE: u32 = 30;

/// A box in which a function is migrated there and back.
struct Traffic {
    host: HostBox,
    management: String,
    mirror: Program,
}

impl Traffic {
    /// Returns when a log is on.
    fn start(config: BoxConfig) -> Result<Self> {
        let config = config.nic(NicConfig::new(2)).huge_pages(HUGE_PAGES);
        let host = HostBox::start(config)?;
        let management = host.addresses(0)?.remove(0);
        let data = host.bind_dlr(0)?;
        let mirror = host.spawn(&format!(
            "vfio-mig --json mirror {} {} --carry-on --cycles {CYCLES} --rounds {ROUNDS}",
            data[0], data[1]
        ))?;
        let this = Self {
            host,
            management,
            mirror,
        };
        let end = Instant::now() + PATIENCE;
        while !this.logs()? {
            ensure!(Instant::now() < end, "no log is on");
            sleep(Duration::from_millis(20));
        }
        this.nic(&json!({"wire": {
            "cmd": "start", "stream": 1, "dst": "10.9.0.2", "port": 9, "size": 512, "pps": RATE,
        }}))?;
        Ok(this)
    }

    fn nic(&self, request: &Value) -> Result<Value> {
        self.host.nic(0)?.control(request)
    }

    /// Whether the NIC logs the writes of one of the functions.
    fn logs(&self) -> Result<bool> {
        let stats = self.nic(&json!({"cmd": "stats"}))?;
        let functions = stats["functions"].as_array().context("no functions")?;
        Ok(functions.iter().any(|f| f["log"]["active"] == true))
    }

    /// How many of the frames a function took between two times, in milliseconds since 1970.
    fn arrivals(&self, from_ms: u128, to_ms: u128) -> Result<u64> {
        let answer = self.nic(&json!({"wire": {
            "cmd": "arrivals", "stream": 1, "from_ms": from_ms as u64, "to_ms": to_ms as u64,
        }}))?;
        let count = answer.pointer("/count").or(answer.pointer("/wire/count"));
        count.and_then(Value::as_u64).context(answer.to_string())
    }
}

fn now_ms() -> Result<u128> {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?;
    Ok(now.as_millis())
}

/// Frames are written to memory while the management function is suspended and logs nothing. The next
/// report fails, and after that each migration moves all memory.
#[test]
fn h6_no_page_is_lost_while_the_system_sleeps() -> Result<()> {
    let mut traffic = Traffic::start(BoxConfig::for_test().sleeps())?;
    let begin = now_ms()?;
    // Devices are suspended, and resumed five seconds later (`pm_test_delay` in kernel/power).
    traffic.host.run(
        "echo devices > /sys/power/pm_test && echo mem > /sys/power/state && \
         echo none > /sys/power/pm_test",
    )?;
    let end = now_ms()?;
    ensure!(end >= begin + 5000, "slept for {} ms only", end - begin);
    let written = traffic.arrivals(begin + 1500, begin + 4500)?;
    ensure!(written > 0, "no frame came in while the system slept");
    let outages = debugfs(&traffic.host, &traffic.management, "stats", "outages")?;
    ensure!(outages == 1, "{outages} outages");
    let output = traffic.mirror.wait(Duration::from_secs(240))?;
    let answer: Value = serde_json::from_slice(&output.stdout)
        .with_context(|| format!("mirror {}: {}", output.ending(), output.text()))?;
    ensure!(answer["verdict"] == "PASS", "{answer}");
    ensure!(answer["lost_pages"] == 0, "{answer}");
    let list = |name: &str| answer[name].as_array().map_or(0, Vec::len);
    let (moved, stayed) = (list("migrations"), list("stays"));
    // The one that the sleep has cut short, and those after it.
    ensure!(stayed == 1 && moved == CYCLES - 1, "{answer}");
    let refused = answer["stays"][0]["refused"].to_string();
    ensure!(refused.contains("the log of"), "{refused}");
    traffic.host.check_idle(0, &traffic.management)?;
    traffic.host.finish()
}

/// Nothing is left running in the device for the next kernel.
#[test]
fn h6_the_machine_goes_under_traffic() -> Result<()> {
    for way in ["poweroff", "reboot"] {
        (|| {
            let traffic = Traffic::start(BoxConfig::for_test())?;
            let stats = json!({"cmd": "stats"});
            let (before, _) = resets(&traffic.nic(&stats)?)?;
            traffic.host.spawn(&format!("busybox {way} -f"))?;
            let end = Instant::now() + PATIENCE;
            loop {
                let (after, flrs) = resets(&traffic.nic(&stats)?)?;
                ensure!(flrs == 0, "{flrs} FLRs");
                if after > before {
                    break;
                }
                ensure!(Instant::now() < end, "the device was left running");
                sleep(Duration::from_millis(20));
            }
            ensure!(!traffic.logs()?, "a log is still on");
            traffic.host.check_log()?;
            traffic.host.wait()
        })()
        .with_context(|| way)?;
    }
    Ok(())
}
