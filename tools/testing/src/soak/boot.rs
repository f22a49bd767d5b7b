// SPDX-License-Identifier: Apache-2.0 OR MIT

//! One boot: the kernel, the NIC, all loads of the driver, and what is judged afterwards.

use std::{fs, path::Path, sync::atomic::AtomicBool, time::Duration};

use anyhow::Result;

use super::{
    attend::attend,
    fault::DEADLINE,
    figures::Figures,
    judge::{judge, Left},
    memory::Sample,
    schedule::Load,
    script::{events, script, Event},
};
use crate::{
    hostbox::{Nic, NicConfig},
    native::{complaints, Bed},
};

/// How long a boot may take.
const LIMIT: Duration = Duration::from_secs(3600);

/// Where a boot takes place.
pub(super) struct Site<'a> {
    pub(super) bed: &'a Bed,
    /// Names its folder.
    pub(super) name: String,
    /// Of the NIC.
    pub(super) sabotage: Option<&'a str>,
}

/// Runs it and judges.
///
/// # Errors
///
/// It could not be begun.
pub(super) fn boot(
    site: &Site<'_>,
    loads: &[Load],
    progress: &mut (dyn FnMut(&Event<'_>) + Send),
) -> Result<Figures> {
    let events = events(loads);
    let mut config = NicConfig::new(2).args([format!("--cmd-timeout={DEADLINE}")]);
    if let Some(sabotage) = site.sabotage {
        config = config.args([format!("--sabotage={sabotage}")]);
    }
    let script = script(&events);
    let run = site.bed.run(&site.name, config, &script, LIMIT);
    let mut figures = Figures {
        boots: 1,
        ..Figures::default()
    };
    let log = run.run_with(Some(
        &mut |nic: &mut Nic, shared: &Path, ended: &AtomicBool| {
            attend(&events, &mut figures, (nic, shared, ended), progress);
        },
    ));
    runs(&events, &run.shared(), &site.name, &mut figures);
    match log {
        Ok(log) => figures.check(&format!("{}: kernel log", site.name), complaints(&log)),
        Err(e) => figures.check(
            &format!("{}: the NIC at the end", site.name),
            vec![format!("{e:#}")],
        ),
    }
    Ok(figures)
}

/// Judges what the script has left in the folder that it shares.
fn runs(events: &[Event<'_>], shared: &Path, name: &str, figures: &mut Figures) {
    let mut samples = Vec::new();
    let read = |number: usize, what: &str| {
        fs::read_to_string(shared.join(format!("{number}.{what}"))).unwrap_or_default()
    };
    for (number, event) in events.iter().enumerate() {
        match event {
            Event::Step(step) => {
                let left = Left {
                    code: read(number, "code").trim().parse().ok(),
                    report: read(number, "json"),
                    words: read(number, "err"),
                };
                let wrong = judge(step, &left, figures);
                let what = format!("{name}: run {number}, `vfio-mig {}`", step.arguments());
                let faults = match step.faults.as_slice() {
                    [] => String::new(),
                    faults => format!(" with {faults:?}"),
                };
                figures.check(&(what + &faults), wrong);
            }
            Event::Unload => samples.push(Sample::parse(&read(number, "memory"))),
            Event::Load(_) | Event::End => {}
        }
    }
    let wrong = match (samples.first(), samples.last()) {
        (Some(Ok(first)), Some(Ok(last))) => {
            let growth = first.until(*last);
            figures.growth = growth;
            growth.beyond()
        }
        _ => vec!["it was not measured".into()],
    };
    figures.check(&format!("{name}: memory of the kernel"), wrong);
}
