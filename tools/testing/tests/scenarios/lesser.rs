// SPDX-License-Identifier: Apache-2.0 OR MIT

//! [12] Functions that offer less of the state machine, each in the part of the source and of the
//! destination: QEMU takes other ways then, and the core asks the driver for other arcs.
//!
//! Without switchover-ack: QEMU 11.1 takes a destination without pre-copy for one that does not use it
//! and refuses the source's word that its initial data have been sent.

use anyhow::Result;
use dlr_testing::e2e::{
    attempt::Settings, traffic::Load, Backend, Journey, Judged, Lab, Unusual, Vm,
};

use crate::{
    group::{Group, Listed},
    hops::{arrive, complete_with, place},
    refusal,
};

const NO_P2P: usize = 1;
const NO_PRE_COPY: usize = 2;
const NEITHER: usize = 3;

fn start(group: &str) -> Result<Journey> {
    let without = [
        "--without=p2p@1",
        "--without=precopy@2",
        "--without=p2p@3",
        "--without=precopy@3",
    ];
    let lab = Lab::start(group, 4, Backend::Iommufd, &without)?;
    Journey::start(lab, &[NO_P2P], Load::light())
}

/// All of them. Each takes the guest where the next one has it.
pub(crate) fn group() -> Listed {
    let group = Group::new("lesser", start);
    let trials = vec![
        group.scenario("s12_without_p2p", without_p2p),
        group.scenario("s12_without_pre_copy", without_pre_copy),
        group.scenario("s12_without_either", without_either),
        group.scenario("s39_blocked_by_two_devices_without_p2p", two_devices),
        group.end("the_guest_of_the_lesser_functions_is_unharmed"),
    ];
    (group, trials)
}

/// Moves the guest; both sides as they are after `completed`.
fn move_to(journey: &mut Journey, to: usize) -> Result<(Vm, Judged)> {
    let mut destination = journey.parts().0.vm(&[to], true)?;
    let judged = complete_with(journey, &mut destination, 3, &Settings::one_way())?;
    destination.until_running("running")?;
    Ok((destination, judged))
}

/// Moves the guest, whose QEMU and whose destination have to take these steps.
fn hop(journey: &mut Journey, from: usize, to: usize, steps: [&str; 2]) -> Result<()> {
    let here = place(journey)?;
    if here != from {
        // The scenario before was not chosen, or has failed.
        let (destination, judged) = move_to(journey, from)?;
        arrive(journey, destination, here, judged)?;
    }
    let (destination, judged) = move_to(journey, to)?;
    let (lab, vm, _) = journey.parts();
    vm.until_saved(lab)?.expect(steps[0])?;
    destination.order(lab.host())?.expect(steps[1])?;
    arrive(journey, destination, from, judged)
}

/// From PRE_COPY to STOP_COPY in one step.
fn without_p2p(journey: &mut Journey) -> Result<()> {
    let source = "LOG_START REPORT PRE_COPY LOOP STOP_COPY REPORT READ STOP SAVED";
    let destination = "RESUMING WRITE RUNNING_P2P RUNNING LOADED";
    hop(journey, NO_P2P, NO_PRE_COPY, [source, destination])
}

/// Nothing is read before the guest stands still; to RUNNING in one step.
fn without_pre_copy(journey: &mut Journey) -> Result<()> {
    let source = "LOG_START REPORT RUNNING_P2P STOP REPORT STOP_COPY READ STOP SAVED";
    let destination = "RESUMING WRITE RUNNING LOADED";
    hop(journey, NO_PRE_COPY, NEITHER, [source, destination])
}

/// Four states are all that there are.
fn without_either(journey: &mut Journey) -> Result<()> {
    let source = "LOG_START REPORT STOP REPORT STOP_COPY READ STOP SAVED";
    let destination = "RESUMING WRITE RUNNING LOADED";
    hop(journey, NEITHER, NO_P2P, [source, destination])
}

/// [39] Several devices have to be quiet before the first of them is stopped.
fn two_devices(journey: &mut Journey) -> Result<()> {
    let paused = Unusual {
        paused: true,
        // With `on` QEMU refuses to start, with the same words.
        device: Some("enable-migration=auto".into()),
        ..Unusual::default()
    };
    let lab = journey.parts().0;
    let vm = lab.unusual_vm(&[NO_PRE_COPY, NEITHER], false, &paused)?;
    let reason = "Multiple VFIO devices migration is supported only if all of them support P2P";
    refusal::expect(lab, vm, reason)
}
