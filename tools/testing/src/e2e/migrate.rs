// SPDX-License-Identifier: Apache-2.0 OR MIT

//! Moves a guest from one QEMU to another one.

use std::{
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::{ensure, Context, Result};
use serde::Serialize;
use serde_json::{json, Value};

use super::{lab::Lab, trace::Trace, unix_ms, vm::Vm};

/// Bandwidth, in bytes a second, that QEMU is told for the switchover while it is to stay in
/// pre-copy: what fits into the allowed downtime rounds to less than a page, so that also a
/// quiet guest is held. (0 would mean that QEMU measures by itself.)
const HOLD: u64 = 1;
/// Bandwidth with which it may switch over.
const GO: u64 = 1 << 30;
/// Limit for the whole.
const LIMIT: Duration = Duration::from_secs(300);

/// How to migrate.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Allowed downtime in milliseconds.
    pub downtime_ms: u64,
    /// Rounds of the dirty bitmap before the switchover, at least.
    pub rounds: u64,
    /// Time in pre-copy before it, at least.
    pub hold: Duration,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            downtime_ms: 500,
            rounds: 5,
            hold: Duration::from_secs(4),
        }
    }
}

impl Plan {
    /// As fast as it goes.
    pub fn quick() -> Self {
        Self {
            rounds: 2,
            hold: Duration::ZERO,
            ..Self::default()
        }
    }
}

/// What came of it.
#[derive(Clone, Debug, Serialize)]
pub struct Migration {
    /// QEMU's last status: `completed`, `failed`, `cancelled`.
    pub status: String,
    /// QEMU's reason, if it failed.
    pub error: Option<String>,
    /// Downtime by QEMU's account, ms.
    pub downtime_ms: u64,
    /// Time from the request to the end, ms.
    pub total_ms: u64,
    /// Time for the set-up, ms.
    pub setup_ms: u64,
    /// Device state bytes by QEMU's account.
    pub vfio_bytes: u64,
    /// Guest memory bytes that were sent.
    pub ram_bytes: u64,
    /// When the guest stopped here and when it ran there, ms since 1970 by this
    /// machine's clock.
    pub stopped: Option<(u64, u64)>,
    /// What the source's trace says.
    pub trace: Trace,
}

impl Migration {
    /// Whether it completed.
    pub fn completed(&self) -> bool {
        self.status == "completed"
    }
}

/// A migration that is on its way.
pub struct Running<'a> {
    lab: &'a Lab,
    plan: Plan,
    started: Instant,
    started_ms: u64,
}

/// Starts to migrate the guest of `source` into `destination`, holding it in
/// pre-copy.
///
/// # Errors
///
/// QEMU refuses.
pub fn start<'a>(
    lab: &'a Lab,
    source: &mut Vm,
    destination: &mut Vm,
    plan: &Plan,
) -> Result<Running<'a>> {
    let uri = format!("unix:/run/vm/{}/migration", destination.name());
    for vm in [&mut *source, &mut *destination] {
        vm.qmp().forget_events();
        vm.prepare_migration(plan.downtime_ms, HOLD)?;
    }
    destination.qmp().execute(
        "migrate-incoming",
        json!({"uri": uri, "exit-on-error": false}),
    )?;
    let started_ms = unix_ms();
    source.qmp().execute("migrate", json!({ "uri": uri }))?;
    Ok(Running {
        lab,
        plan: plan.clone(),
        started: Instant::now(),
        started_ms,
    })
}

impl Running<'_> {
    /// Waits in pre-copy for what the plan asks for, and for `enough`. Returns
    /// early if the migration ends by itself.
    ///
    /// # Errors
    ///
    /// It does not get so far.
    pub fn pre_copy(
        &self,
        source: &mut Vm,
        mut progress: impl FnMut(&Value),
        mut enough: impl FnMut() -> Result<bool>,
    ) -> Result<()> {
        loop {
            let info = source.qmp().execute("query-migrate", Value::Null)?;
            progress(&info);
            let status = info["status"].as_str().unwrap_or_default();
            if ended(status) {
                return Ok(());
            }
            let rounds = info["ram"]["dirty-sync-count"].as_u64().unwrap_or(0);
            let held = status == "active"
                && rounds >= self.plan.rounds
                && self.started.elapsed() >= self.plan.hold;
            if held && enough()? {
                return Ok(());
            }
            ensure!(
                self.started.elapsed() < LIMIT,
                "the migration stays in pre-copy: {info}"
            );
            sleep(Duration::from_millis(150));
        }
    }

    /// Lets it switch over and waits for the end, whichever it is.
    ///
    /// # Errors
    ///
    /// It does not end.
    pub fn switch_over(self, source: &mut Vm, destination: &mut Vm) -> Result<Migration> {
        let go = json!({"avail-switchover-bandwidth": GO});
        source.qmp().execute("migrate-set-parameters", go)?;
        self.wait_end(source, destination)
    }

    /// Cancels it and waits for the end.
    ///
    /// # Errors
    ///
    /// It does not end.
    pub fn cancel(self, source: &mut Vm, destination: &mut Vm) -> Result<Migration> {
        source.qmp().execute("migrate_cancel", Value::Null)?;
        self.wait_end(source, destination)
    }

    fn wait_end(self, source: &mut Vm, destination: &mut Vm) -> Result<Migration> {
        let info = loop {
            let info = source.qmp().execute("query-migrate", Value::Null)?;
            if ended(info["status"].as_str().unwrap_or_default()) {
                break info;
            }
            ensure!(
                self.started.elapsed() < LIMIT,
                "the migration does not end: {info}"
            );
            sleep(Duration::from_millis(100));
        };
        let number = |value: &Value| value.as_u64().unwrap_or(0);
        let status = info["status"].as_str().unwrap_or_default().to_owned();
        let clock = self.lab.clock_ms();
        let stopped = if status == "completed" {
            let resumed = destination
                .qmp()
                .wait_event("RESUME", Duration::from_secs(60), |_| true);
            let resumed = resumed.context("the guest does not run in the destination")?;
            let events = source.qmp().events();
            let stop = events
                .iter()
                .rev()
                .find(|e| e["event"] == "STOP")
                .context("no STOP event")?;
            Some((event_ms(stop, clock), event_ms(&resumed, clock)))
        } else {
            // A failed migration may have stopped the guest for a while too.
            let events = source.qmp().events();
            let at = |name: &str| {
                events
                    .iter()
                    .rev()
                    .find(|e| e["event"] == name)
                    .map(|e| event_ms(e, clock))
            };
            at("STOP").map(|from| (from, at("RESUME").unwrap_or_else(unix_ms)))
        };
        Ok(Migration {
            status,
            error: info["error-desc"].as_str().map(str::to_owned),
            downtime_ms: number(&info["downtime"]),
            total_ms: info["total-time"]
                .as_u64()
                .unwrap_or_else(|| unix_ms() - self.started_ms),
            setup_ms: number(&info["setup-time"]),
            vfio_bytes: number(&info["vfio"]["transferred"]),
            ram_bytes: number(&info["ram"]["transferred"]),
            stopped,
            trace: Trace::parse(&source.trace(self.lab.host())?),
        })
    }
}

/// Migrates as planned and waits for the end, whichever it is.
///
/// # Errors
///
/// QEMU refuses or does not get to an end.
pub fn migrate(lab: &Lab, source: &mut Vm, destination: &mut Vm, plan: &Plan) -> Result<Migration> {
    let running = start(lab, source, destination, plan)?;
    running.pre_copy(source, |_| (), || Ok(true))?;
    running.switch_over(source, destination)
}

fn ended(status: &str) -> bool {
    matches!(status, "completed" | "failed" | "cancelled")
}

/// Time stamp of a QMP event by this machine's clock.
pub(super) fn event_ms(event: &Value, clock_ms: i64) -> u64 {
    let part = |key: &str| event["timestamp"][key].as_i64().unwrap_or(0);
    let ms = part("seconds") * 1000 + part("microseconds") / 1000 + clock_ms;
    u64::try_from(ms).unwrap_or(0)
}
