// SPDX-License-Identifier: Apache-2.0 OR MIT

//! The operations under test: how to get ready for one, and what to look at afterwards.

use std::time::Duration;

use anyhow::{ensure, Context, Result};
use dlr_testing::drive::{dirty, outcome};
use serde_json::{json, Value};

use crate::lane::{Lane, TRACKED, UNTRACKED};

/// How long a read may go on that the device does not answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// One operation of the uAPI.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    /// SET_STATE of one arc.
    Arc(&'static str, &'static str),
    /// read() of a data file in this state.
    Read(&'static str),
    /// SET_STATE of the arc from PRE_COPY to PRE_COPY_P2P while a read() waits for the device.
    ArcWhileReading,
    /// write() of a whole image.
    Write,
    /// The precopy ioctl.
    Precopy,
    /// MIG_DATA_SIZE.
    Size,
    /// DMA logging.
    LogStart,
    /// REPORT of a range where something was written.
    Report,
    /// REPORT of a range outside of START's.
    ReportOutside,
    /// DMA logging.
    LogStop,
}

impl Operation {
    /// An arc that only functions without P2P states have.
    pub(crate) fn is_without_p2p(self) -> bool {
        matches!(
            self,
            Self::Arc("RUNNING", "STOP")
                | Self::Arc("STOP", "RUNNING")
                | Self::Arc("PRE_COPY", "STOP_COPY")
        )
    }

    /// Its name in the table.
    pub(crate) fn name(self) -> String {
        match self {
            Self::Arc(from, to) if self.is_without_p2p() => {
                format!("{from} -> {to}, without P2P")
            }
            Self::Arc(from, to) => format!("{from} -> {to}"),
            Self::Read(state) => format!("read in {state}"),
            Self::ArcWhileReading => "PRE_COPY -> PRE_COPY_P2P beside a read".into(),
            Self::Write => "write".into(),
            Self::Precopy => "precopy ioctl".into(),
            Self::Size => "MIG_DATA_SIZE".into(),
            Self::LogStart => "START".into(),
            Self::Report => "REPORT".into(),
            Self::ReportOutside => "REPORT, untracked".into(),
            Self::LogStop => "STOP".into(),
        }
    }

    /// Its commands are given as soon as all is prepared.
    pub(crate) fn reads_ahead(self) -> bool {
        self == Self::Read("STOP_COPY")
    }

    /// Everything up to the operation, which works.
    pub(crate) fn prepare(self, lane: &mut Lane<'_>) -> Result<()> {
        match self {
            Self::Arc(from, _) => {
                lane.drive.go(from)?;
                if from == "RESUMING" {
                    lane.drive.ok(&json!({"cmd": "write", "saved": "image"}))?;
                }
            }
            Self::Read(state) => lane.drive.go(state)?,
            Self::Write => lane.drive.go("RESUMING")?,
            Self::Precopy | Self::ArcWhileReading => lane.drive.go("PRE_COPY")?,
            Self::Size | Self::LogStart => {}
            Self::Report | Self::ReportOutside | Self::LogStop => {
                lane.drive
                    .ok(&json!({"cmd": "log-start", "ranges": [TRACKED]}))?;
                if self == Self::Report {
                    lane.nic(
                        &json!({"cmd": "log-entry", "function": 0, "entry": {"write": 0x3000}}),
                    )?;
                }
            }
        }
        Ok(())
    }

    /// The call itself.
    fn request(self) -> Value {
        match self {
            Self::Arc(_, to) => json!({"cmd": "set", "state": to}),
            Self::ArcWhileReading => json!({"cmd": "set", "state": "PRE_COPY_P2P"}),
            // All that there is: a short read could be served from what was read ahead.
            Self::Read(_) => json!({"cmd": "read"}),
            Self::Write => json!({"cmd": "write", "saved": "image"}),
            Self::Precopy => json!({"cmd": "precopy"}),
            Self::Size => json!({"cmd": "size"}),
            Self::LogStart => json!({"cmd": "log-start", "ranges": [TRACKED]}),
            Self::Report => json!({"cmd": "report", "range": TRACKED}),
            Self::ReportOutside => json!({"cmd": "report", "range": UNTRACKED}),
            Self::LogStop => json!({"cmd": "log-stop"}),
        }
    }

    /// Does it, and says what came out: errno, and what can be seen afterwards.
    pub(crate) fn run(self, lane: &mut Lane<'_>) -> Result<String> {
        if self == Self::ArcWhileReading {
            return self.run_beside_read(lane);
        }
        let (errno, answer) = lane.call(&self.request())?;
        let state = lane.drive.state()?;
        let more = match self {
            Self::Arc(from, to) => {
                if errno == "OK" {
                    ensure!(state == to, "SET of {to} succeeded, GET says {state}");
                } else {
                    ensure!(state != to, "SET of {to} was {errno}, GET says {state}");
                }
                if state == "ERROR" {
                    let out = lane.drive.set(from)?;
                    ensure!(out == "EIO", "SET in ERROR is {out}");
                }
                file_of_arc(lane, from, to, &state)?
            }
            Self::Read(_) if errno == "OK" => None,
            Self::Write if errno == "OK" => Some(format!("STOP {}", lane.drive.set("STOP")?)),
            Self::Read(_) | Self::Write => Some(format!("then {}", self.again(lane)?)),
            Self::Precopy | Self::Size | Self::ArcWhileReading => None,
            Self::LogStart => {
                // Whether a log runs.
                Some(format!("REPORT {}", lane.errno(&Self::Report.request())?))
            }
            Self::Report | Self::ReportOutside if errno == "OK" => {
                ensure!(dirty(&answer)? > 0, "reported clean: {answer}");
                None
            }
            Self::Report | Self::ReportOutside => {
                let again = lane.errno(&self.request())?;
                // STOP and START make it good, unless the NIC is gone.
                let stop = lane.errno(&Self::LogStop.request())?;
                let start = lane.errno(&Self::LogStart.request())?;
                Some(format!("then {again}, STOP {stop}, START {start}"))
            }
            Self::LogStop => Some(format!(
                "REPORT {}, START {}",
                lane.errno(&Self::Report.request())?,
                lane.errno(&Self::LogStart.request())?
            )),
        };
        let state = match self {
            Self::Arc(..) => format!(" {state}"),
            _ => {
                let stays = match self {
                    Self::Read(state) => state,
                    Self::Write => "RESUMING",
                    Self::Precopy => "PRE_COPY",
                    _ => "RUNNING",
                };
                ensure!(state == stays, "{self:?} moved the device to {state}");
                String::new()
            }
        };
        Ok(match more {
            Some(more) => format!("{errno}{state}; {more}"),
            None => format!("{errno}{state}"),
        })
    }

    fn run_beside_read(self, lane: &mut Lane<'_>) -> Result<String> {
        let job = lane.drive.begin(json!({"cmd": "read"}))?;
        let early = lane.drive.wait(job, Duration::from_millis(300))?;
        ensure!(early.is_none(), "the read does not wait: {early:?}");
        let errno = lane.errno(&self.request())?;
        let state = lane.drive.state()?;
        let read = lane.drive.wait(job, PATIENCE)?;
        let read = outcome(&read.context("the read hangs")?)?;
        Ok(format!("{errno} {state}; read {read}"))
    }

    /// The same call once more, after it failed.
    fn again(self, lane: &mut Lane<'_>) -> Result<String> {
        let read = json!({"cmd": "read", "bytes": 1});
        let write = json!({"cmd": "write", "hex": "00"});
        let again = lane.errno(if self == Self::Write { &write } else { &read })?;
        if self != Self::Write {
            return Ok(again);
        }
        Ok(format!("{again}, STOP {}", lane.drive.set("STOP")?))
    }
}

/// What has become of a session that was there before the arc, or of the one that it made.
fn file_of_arc(lane: &mut Lane<'_>, from: &str, to: &str, now: &str) -> Result<Option<String>> {
    let session = |state: &str| ["PRE_COPY", "PRE_COPY_P2P", "STOP_COPY"].contains(&state);
    if !session(from) && !session(to) {
        return Ok(None);
    }
    let status = lane.drive.ok(&json!({"cmd": "status"}))?;
    if status["files"].as_array().is_none_or(Vec::is_empty) {
        ensure!(!session(now), "in {now} without a file");
        return Ok(Some("no file".into()));
    }
    let read = lane.errno(&json!({"cmd": "read", "bytes": 1}))?;
    Ok(Some(match read.as_str() {
        "OK" | "ENOMSG" => "file lives".to_owned(),
        "ENODEV" => "file dead".to_owned(),
        other => format!("file {other}"),
    }))
}
