// SPDX-License-Identifier: Apache-2.0 OR MIT

//! A migration step by step, for what is not to go smoothly: it stops where the
//! test wants it to, fails, is cancelled, or has nowhere to go.

use std::{
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::{bail, ensure, Result};
use serde_json::{json, Value};

mod settled;

pub use settled::{driver_state, until_at_rest, until_state};

use super::{lab::Lab, migrate::event_ms, unix_ms, vm::Vm};

/// A destination that takes any state and is nobody.
pub const NOWHERE: &str = "exec:cat > /dev/null";

/// Limit for each step.
const LIMIT: Duration = Duration::from_secs(120);
/// Bandwidth in bytes a second that keeps QEMU in pre-copy, and one that lets it go. What fits into
/// the allowed downtime is less than a page, and less than the state of a device, but not nothing:
/// QEMU 10.0 asks for exact sizes only while its estimate is below that, and switches over if the
/// estimate is nothing.
const HOLD: u64 = 1000;
const GO: u64 = 1 << 30;
/// Bandwidth that keeps QEMU asleep most of the time: one that is held looks for dirty memory all the
/// time, and a guest that has something to do hardly gets on beside it.
const SLOW: u64 = 1 << 20;

/// How to migrate.
#[derive(Clone, Debug)]
pub struct Settings {
    /// With return path and switchover-ack; impossible if the state goes [`NOWHERE`].
    pub return_path: bool,
    /// Stop before the switchover, with the devices stopped already.
    pub pause: bool,
    /// Stay in pre-copy until [`Vm::let_go`].
    pub hold: bool,
    /// Send slowly until [`Vm::let_go`].
    pub slow: bool,
    /// Channels of multifd, 0 for none.
    pub channels: u32,
    /// Allowed downtime in milliseconds.
    pub downtime_ms: u64,
}

impl Settings {
    /// To another QEMU, held in pre-copy.
    pub fn held() -> Self {
        Self {
            return_path: true,
            pause: false,
            hold: true,
            slow: false,
            channels: 0,
            downtime_ms: 500,
        }
    }

    /// To [`NOWHERE`] or a file, held in pre-copy.
    pub fn one_way() -> Self {
        Self {
            return_path: false,
            ..Self::held()
        }
    }

    /// With so many channels of multifd.
    #[must_use]
    pub fn channels(mut self, channels: u32) -> Self {
        self.channels = channels;
        self
    }

    /// Slow as well.
    #[must_use]
    pub fn slow(mut self) -> Self {
        self.slow = true;
        self
    }

    /// Not held.
    #[must_use]
    pub fn free(mut self) -> Self {
        self.hold = false;
        self
    }

    /// Paused before the switchover.
    #[must_use]
    pub fn pausing(mut self) -> Self {
        self.pause = true;
        self
    }
}

/// How it ended.
#[derive(Clone, Debug)]
pub struct Attempt {
    /// QEMU's last status.
    pub status: String,
    /// Its reason.
    pub error: String,
    /// All that it said.
    pub info: Value,
}

impl Attempt {
    /// Fails unless QEMU says `failed` with a reason that contains `reason`.
    ///
    /// # Errors
    ///
    /// Says how it ended instead.
    pub fn expect_failed(&self, reason: &str) -> Result<()> {
        self.expect_failed_with(&[reason])
    }

    /// The same if it depends on the order in which QEMU notices two things: one of `reasons`.
    ///
    /// # Errors
    ///
    /// Says how it ended instead.
    pub fn expect_failed_with(&self, reasons: &[&str]) -> Result<()> {
        ensure!(
            self.status == "failed" && reasons.iter().any(|r| self.error.contains(r)),
            "instead of `failed` with one of {reasons:?}: `{}` with `{}`",
            self.status,
            self.error
        );
        Ok(())
    }

    /// Fails unless it ended with `status`.
    ///
    /// # Errors
    ///
    /// Says how it ended instead.
    pub fn expect(&self, status: &str) -> Result<()> {
        ensure!(
            self.status == status,
            "instead of `{status}`: `{}` with `{}`",
            self.status,
            self.error
        );
        Ok(())
    }
}

impl Vm {
    fn configure(&mut self, settings: &Settings) -> Result<()> {
        let set = |name: &str, state: bool| json!({"capability": name, "state": state});
        let list = [
            set("events", true),
            set("return-path", settings.return_path),
            set("switchover-ack", settings.return_path),
            set("pause-before-switchover", settings.pause),
            set("multifd", settings.channels > 0),
        ];
        self.qmp()
            .execute("migrate-set-capabilities", json!({"capabilities": list}))?;
        let bandwidth = if settings.hold { HOLD } else { GO };
        let mut parameters = json!({"downtime-limit": settings.downtime_ms,
            "max-bandwidth": if settings.slow { SLOW } else { GO }, "avail-switchover-bandwidth": bandwidth});
        if settings.channels > 0 {
            parameters["multifd-channels"] = settings.channels.into();
        }
        self.qmp().execute("migrate-set-parameters", parameters)?;
        Ok(())
    }

    /// Starts to migrate to `uri`; [`Vm::order`] begins here.
    ///
    /// # Errors
    ///
    /// QEMU refuses, with its reason.
    pub fn begin(&mut self, lab: &Lab, uri: &str, settings: &Settings) -> Result<()> {
        self.mark(lab.host())?;
        self.configure(settings)?;
        self.qmp().execute("migrate", json!({ "uri": uri }))?;
        Ok(())
    }

    /// Waits for a migration that [`Vm::begin`] starts elsewhere; returns its URI.
    ///
    /// # Errors
    ///
    /// QEMU refuses.
    pub fn expect_incoming(&mut self, lab: &Lab, settings: &Settings) -> Result<String> {
        let uri = format!("unix:/run/vm/{}/migration", self.name());
        self.receive(lab, &uri, settings)?;
        Ok(uri)
    }

    /// Loads from `uri`, or waits there.
    ///
    /// # Errors
    ///
    /// QEMU refuses.
    pub fn receive(&mut self, lab: &Lab, uri: &str, settings: &Settings) -> Result<()> {
        self.mark(lab.host())?;
        self.configure(settings)?;
        self.qmp().execute(
            "migrate-incoming",
            json!({"uri": uri, "exit-on-error": false}),
        )?;
        Ok(())
    }

    /// Waits until `query-migrate` shows what `enough` wants.
    ///
    /// # Errors
    ///
    /// It does not within two minutes, or the migration ends before.
    pub fn until(&mut self, what: &str, enough: impl Fn(&Value) -> bool) -> Result<Value> {
        let start = Instant::now();
        loop {
            let info = self.qmp().execute("query-migrate", Value::Null)?;
            if enough(&info) {
                return Ok(info);
            }
            let status = info["status"].as_str().unwrap_or_default();
            if matches!(status, "completed" | "failed" | "cancelled") {
                bail!(
                    "the migration ended ({status}, {}) before {what}",
                    info["error-desc"]
                );
            }
            ensure!(start.elapsed() < LIMIT, "no {what}: {info}");
            sleep(Duration::from_millis(100));
        }
    }

    /// Waits for pre-copy and `rounds` rounds of it.
    ///
    /// # Errors
    ///
    /// See [`Vm::until`].
    pub fn until_rounds(&mut self, rounds: u64) -> Result<Value> {
        self.until("pre-copy", |info| {
            let done = info["ram"]["dirty-sync-count"].as_u64().unwrap_or(0);
            info["status"] == "active" && done >= rounds
        })
    }

    /// Waits for a status that is not the last one.
    ///
    /// # Errors
    ///
    /// See [`Vm::until`].
    pub fn until_status(&mut self, status: &str) -> Result<Value> {
        self.until(status, |info| info["status"] == status)
    }

    /// Waits for the end.
    ///
    /// # Errors
    ///
    /// There is none within two minutes.
    pub fn until_end(&mut self) -> Result<Attempt> {
        let info = self.until("end", |info| {
            let status = info["status"].as_str().unwrap_or_default();
            matches!(status, "completed" | "failed" | "cancelled")
        })?;
        Ok(Attempt {
            status: info["status"].as_str().unwrap_or_default().to_owned(),
            error: info["error-desc"].as_str().unwrap_or_default().to_owned(),
            info,
        })
    }

    /// Lets a held migration switch over.
    ///
    /// # Errors
    ///
    /// QEMU is gone.
    pub fn let_go(&mut self) -> Result<()> {
        let go = json!({"avail-switchover-bandwidth": GO, "max-bandwidth": GO});
        self.qmp().execute("migrate-set-parameters", go).map(drop)
    }

    /// Lets a migration go on that paused before its switchover.
    ///
    /// # Errors
    ///
    /// It does not pause there.
    pub fn proceed(&mut self) -> Result<()> {
        self.qmp()
            .execute("migrate-continue", json!({"state": "pre-switchover"}))
            .map(drop)
    }

    /// Cancels the migration and waits for the end.
    ///
    /// # Errors
    ///
    /// There is none within two minutes.
    pub fn cancel(&mut self) -> Result<Attempt> {
        self.qmp().execute("migrate_cancel", Value::Null)?;
        self.until_end()
    }

    /// Time spans in which the guest stood still here, by this machine's clock; forgets the
    /// events they are made from. One that has not ended ends now.
    pub fn take_stops(&mut self, clock_ms: i64) -> Vec<(u64, u64)> {
        let mut stops = Vec::new();
        let mut since = None;
        for event in self.qmp().events() {
            let at = event_ms(&event, clock_ms);
            match event["event"].as_str() {
                Some("STOP") => since = since.or(Some(at)),
                Some("RESUME") => stops.extend(since.take().map(|from| (from, at))),
                _ => (),
            }
        }
        stops.extend(since.map(|from| (from, unix_ms())));
        self.qmp().forget_events();
        stops
    }
}
