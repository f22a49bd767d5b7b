// SPDX-License-Identifier: Apache-2.0 OR MIT

//! This side of a boot: sets faults before each event, and looks at the NIC.

use std::{
    fs,
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use serde_json::{json, Value};

use super::{
    fault::Fault,
    figures::Figures,
    schedule::{Load, Step},
    script::Event,
};
use crate::hostbox::Nic;

/// Time between two looks at the folder.
const PACE: Duration = Duration::from_millis(5);

/// Time between two looks at a NIC that nobody asks for anything.
const LOOK: Duration = Duration::from_secs(1);

/// Goes through `events` with the script. `progress` is told of each that is over.
pub(super) fn attend(
    events: &[Event<'_>],
    figures: &mut Figures,
    (nic, shared, ended): (&mut Nic, &Path, &AtomicBool),
    progress: &mut dyn FnMut(&Event<'_>),
) {
    let mut eager = Vec::new();
    for (number, event) in events.iter().enumerate() {
        let result = wait(nic, shared, number, &mut eager, figures, ended);
        if ended.load(Ordering::Acquire) {
            return;
        }
        if let Some(before) = number.checked_sub(1).and_then(|n| events.get(n)) {
            progress(before);
        }
        eager.clear();
        let result = result.and_then(|()| match event {
            Event::Load(load) => prepare(nic, load, figures),
            Event::Step(step) => arm(nic, step, figures, &mut eager),
            Event::Unload => Ok(()),
            Event::End => count(nic, figures),
        });
        let answer = match &result {
            Ok(()) => format!("{number}.go"),
            Err(_) => "stop".into(),
        };
        let result = result.and(fs::write(shared.join(answer), "").context("shared folder"));
        if let Err(e) = result {
            figures.check("the NIC", vec![format!("before event {number}: {e:#}")]);
            return;
        }
    }
}

/// Waits for the script; meanwhile the faults of `eager` are tried until each has come.
fn wait(
    nic: &mut Nic,
    shared: &Path,
    number: usize,
    eager: &mut Vec<&Fault>,
    figures: &mut Figures,
    ended: &AtomicBool,
) -> Result<()> {
    let ask = shared.join(format!("{number}.ask"));
    let mut looked = Instant::now();
    while !ask.exists() && !ended.load(Ordering::Acquire) {
        // Those that no log is on for are refused.
        eager.retain(|fault| match nic.control(&fault.request()) {
            Ok(_) => {
                note(figures, fault);
                false
            }
            Err(_) => true,
        });
        if looked.elapsed() > LOOK {
            nic.check()?;
            looked = Instant::now();
        }
        thread::sleep(PACE);
    }
    nic.check()
}

/// No driver is loaded.
fn prepare(nic: &Nic, load: &Load, figures: &mut Figures) -> Result<()> {
    nic.control(&json!({"cmd": "mend"}))?;
    if figures.loads > 0 {
        let idle = nic.check_idle().err().map(|e| format!("{e:#}"));
        figures.check("the NIC without a driver", idle.into_iter().collect());
    }
    figures.loads += 1;
    let without: &[&str] = if load.hold { &[] } else { &["hold"] };
    let firmware = json!({"cmd": "firmware", "without": without});
    nic.control(&firmware).map(drop)
}

/// Before a run.
fn arm<'a>(
    nic: &Nic,
    step: &'a Step,
    figures: &mut Figures,
    eager: &mut Vec<&'a Fault>,
) -> Result<()> {
    nic.control(&json!({"cmd": "mend"}))?;
    for fault in &step.faults {
        if fault.waits() {
            nic.control(&fault.request())?;
            note(figures, fault);
        } else {
            eager.push(fault);
        }
    }
    Ok(())
}

fn note(figures: &mut Figures, fault: &Fault) {
    *figures.set.entry(fault.kind().into()).or_default() += 1;
}

/// What the NIC has counted.
fn count(nic: &Nic, figures: &mut Figures) -> Result<()> {
    let stats = nic.control(&json!({"cmd": "stats"}))?;
    let number = |value: &Value| value.as_u64().unwrap_or_default();
    for function in stats["functions"].as_array().into_iter().flatten() {
        let log = &function["log"];
        figures.logged += number(&log["granules"]);
        figures.overflows += number(&log["lost"]);
        figures.holds += number(&log["holds"]);
    }
    figures.suffered += number(&stats["faults"]);
    figures.resets += number(&stats["resets"]);
    figures.flrs += number(&stats["flrs"]);
    Ok(())
}
