// SPDX-License-Identifier: Apache-2.0 OR MIT

//! S13 to S18: reset, close and open in every state.

use super::dead::expect_dead;
use crate::{
    check::{
        verdict::{accepted, deviation, ensure, Outcome},
        Case, Ctx, Group, Needs,
    },
    state::State,
};

/// See the module.
pub(super) fn cases() -> Vec<Case> {
    let mut cases = vec![Case::new(
        Group::Reset,
        "S13.open-is-running",
        Needs::MIGRATION,
        "a device that is opened has no session, so it is in no state that has one (uapi:1148)",
        |ctx| close_in(ctx, State::Running),
    )];
    cases.push(Case::new(
        Group::Reset,
        "S14.reset-is-promised",
        Needs::MIGRATION,
        "only VFIO_DEVICE_RESET aborts RESUMING and leaves ERROR (uapi:1127, 1200), and \
         VFIO_DEVICE_FLAGS_RESET says that the device supports it (uapi:209)",
        promised,
    ));
    for (state, name, needs) in [
        (State::Stop, "stop", Needs::empty()),
        (State::Running, "running", Needs::empty()),
        (State::RunningP2p, "running-p2p", Needs::P2P),
        (State::PreCopy, "pre-copy", Needs::PRE_COPY),
        (
            State::PreCopyP2p,
            "pre-copy-p2p",
            Needs::PRE_COPY.union(Needs::P2P),
        ),
        (State::StopCopy, "stop-copy", Needs::empty()),
        (State::Resuming, "resuming", Needs::empty()),
    ] {
        let needs = needs | Needs::MIGRATION | Needs::RESET;
        cases.push(Case::new(
            Group::Reset,
            format!("S14.reset-in-{name}"),
            needs,
            "VFIO_DEVICE_RESET leads to RUNNING, and only arcs from there begin sessions (uapi:1052, \
             1127, 1200)",
            move |ctx| reset_in(ctx, state),
        ));
        if state != State::Running {
            cases.push(Case::new(
                Group::Reset,
                format!("S18.close-in-{name}"),
                needs,
                "a session ends with the device file: the next process that opens it has no data \
                 file, so the device is in no state that has one (uapi:1148, 1181)",
                move |ctx| close_in(ctx, state),
            ));
        }
    }
    cases
}

fn promised(ctx: &mut Ctx) -> Outcome {
    accepted("VFIO_DEVICE_RESET", ctx.dut.reset())?;
    ensure!(
        ctx.dut.promises_reset(),
        "VFIO_DEVICE_RESET succeeds, and VFIO_DEVICE_GET_INFO has no VFIO_DEVICE_FLAGS_RESET"
    );
    Ok(())
}

fn reset_in(ctx: &mut Ctx, state: State) -> Outcome {
    let image = ctx.dut.own_image()?;
    for part in [0, image.len() / 2, image.len()] {
        let written = image.get(..part).unwrap_or_default();
        let mut file = ctx.dut.enter(state, written)?;
        accepted(format!("VFIO_DEVICE_RESET in {state}"), ctx.dut.reset())?;
        ctx.dut
            .expect_state(State::Running, "after VFIO_DEVICE_RESET")?;
        if let Some(file) = &mut file {
            expect_dead(ctx, file, state, "after VFIO_DEVICE_RESET")?;
        }
        if state != State::Resuming {
            break;
        }
    }
    works(ctx, &image)
}

fn close_in(ctx: &mut Ctx, state: State) -> Outcome {
    let image = ctx.dut.own_image()?;
    let mut file = ctx.dut.enter(state, &image)?;
    ctx.dut.close()?;
    if let Some(file) = &mut file {
        expect_dead(ctx, file, state, "after the device was closed")?;
    }
    ctx.dut.reopen()?;
    match ctx.dut.opened_in() {
        Some(State::Running) => {}
        Some(now) if now.has_session() || now == State::Error => deviation!(
            "closed in {state}, the device is in {now} when it is opened again, without a session"
        ),
        Some(now) => ctx.note(format!(
            "closed in {state}, the device is in {now} when it is opened again: others are RUNNING"
        )),
        None => deviation!("the state cannot be asked for after opening"),
    }
    if let Some(file) = &mut file {
        expect_dead(ctx, file, state, "after the device was opened again")?;
    }
    works(ctx, &image)
}

/// The device saves and resumes as ever.
fn works(ctx: &mut Ctx, image: &[u8]) -> Outcome {
    ctx.dut.own_image()?;
    let _file = ctx.dut.enter(State::Resuming, image)?;
    accepted(
        "SET RESUMING -> RUNNING afterwards",
        ctx.dut.set(State::Running),
    )
    .map(drop)
}
