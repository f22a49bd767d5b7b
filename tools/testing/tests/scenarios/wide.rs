// SPDX-License-Identifier: Apache-2.0 OR MIT

//! Scenarios that are not part of `make test`: `make test-wide` runs them. They take long, or
//! depend on what QEMU does by itself.

use std::{thread::sleep, time::Duration};

use anyhow::{ensure, Context, Result};
use dlr_testing::e2e::{attempt::Settings, Journey, Unusual};

use crate::{
    group::{start_journey, Group, Listed},
    hops::{arrive, complete_with, destination},
};

/// Set by `make test-wide`.
const WANTED: &str = "DLR_WIDE";
/// With the default of two channels QEMU 11.1.3 deadlocks every now and then.
const CHANNELS: u32 = 8;
/// Time in pre-copy.
const LONG: Duration = Duration::from_secs(60);

/// Whether these scenarios are to run.
pub(crate) fn wanted() -> bool {
    std::env::var_os(WANTED).is_some()
}

/// All of them.
pub(crate) fn group() -> Listed {
    let group = Group::new("wide", start_journey);
    let trials = vec![
        group.scenario("s15_multifd", multifd),
        group.scenario("s25_a_minute_in_pre_copy", long_pre_copy),
        group.end("the_guest_of_the_wide_scenarios_is_unharmed"),
    ];
    (group, trials)
}

/// [15] Device state over multifd. Every wait has a limit, as QEMU 11.1.3 can block for good.
fn multifd(journey: &mut Journey) -> Result<()> {
    let (here, _, mut destination) = destination(journey, &Unusual::default())?;
    let settings = Settings::held().channels(CHANNELS);
    let judged = complete_with(journey, &mut destination, 3, &settings)?;
    let order = destination.order(journey.lab().host())?;
    ensure!(order.states().first() == Some(&"RESUMING"), "{order}");
    arrive(journey, destination, here, judged)
}

/// [25] A minute in pre-copy: the driver is asked all the time, but asks the NIC only where
/// something is dirty, and nothing locks up.
fn long_pre_copy(journey: &mut Journey) -> Result<()> {
    let (here, _, mut destination) = destination(journey, &Unusual::default())?;
    let settings = Settings::held();
    let uri = destination.expect_incoming(journey.lab(), &settings)?;
    let judged = journey.complete(&uri, 2, &settings, |lab, traffic| {
        traffic.trickle(lab)?;
        let before = lab.host().run("cut -d' ' -f1 /proc/uptime")?;
        sleep(LONG);
        let after = lab.host().run("cut -d' ' -f1 /proc/uptime")?;
        let seconds = |text: &str| text.trim().parse::<f64>().context("uptime");
        let passed = seconds(&after)? - seconds(&before)?;
        ensure!(passed > 30.0, "the box stood still: {passed} s of {LONG:?}");
        let counts = lab.host().run(&format!(
            "cat /sys/kernel/debug/dlr_vfio_pci/{}/log",
            lab.functions().get(here).context("no such function")?
        ))?;
        ensure!(counts.contains("error 0"), "{counts}");
        Ok(())
    })?;
    arrive(journey, destination, here, judged)
}
