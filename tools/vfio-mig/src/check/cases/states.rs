// SPDX-License-Identifier: Apache-2.0 OR MIT

//! S: the state machine.

use std::time::Duration;

use rustix::io::Errno;

use crate::{
    check::{
        verdict::{accepted, deviation, ensure, refused, skip, Outcome},
        ways::{drain, End},
        Case, Ctx, Group, Needs,
    },
    state::{path, State},
};

const SAYS_ARC: &str = "the device moves as vfio_mig_get_next_state() says, before SET returns; a \
                        data file comes with the arcs that begin a session, and only with them \
                        (uapi:1049, 1062, 1148-1163, 1215)";

/// See the module.
pub(super) fn cases() -> Vec<Case> {
    let case = |id, needs, says, run: fn(&mut Ctx) -> Outcome| {
        Case::new(Group::States, id, needs, says, run)
    };
    let mig = Needs::MIGRATION;
    let mut cases = arcs();
    cases.extend([
        case(
            "S2.to-error",
            mig,
            "ERROR cannot be specified as a state (uapi:1196)",
            to_error,
        ),
        case(
            "S2.out-of-range",
            mig,
            "a number that is no state is EINVAL and moves nothing (vfio_main.c:880)",
            out_of_range,
        ),
        case(
            "S2.not-advertised",
            mig,
            "optional states cannot be used if the device does not support them (uapi:1230)",
            not_advertised,
        ),
        case(
            "S4.same-state-keeps-session",
            mig,
            "SET of the current state is no arc: the session goes on (uapi:1151, 1215)",
            same_state,
        ),
        case(
            "S7.one-session",
            Needs::PRE_COPY,
            "moving within the saving group does not terminate or affect the file (uapi:1148)",
            one_session,
        ),
        case(
            "S7.two-ways-to-stop-copy",
            Needs::PRE_COPY,
            "what one file gave, over STOP or over PRE_COPY, can be resumed from (uapi:1183)",
            two_ways,
        ),
        case(
            "S9.config-space",
            mig,
            "when stopped, config space must still be accessible (uapi:1107)",
            config_space,
        ),
        case(
            "S10.no-change-by-itself",
            mig,
            "no state changes but by the user or VFIO_DEVICE_RESET (uapi:1052)",
            by_itself,
        ),
    ]);
    cases
}

fn short(state: State) -> String {
    state.to_string().to_lowercase().replace('_', "-")
}

fn needs(state: State) -> Needs {
    match state {
        State::RunningP2p => Needs::P2P,
        State::PreCopy => Needs::PRE_COPY,
        State::PreCopyP2p => Needs::PRE_COPY | Needs::P2P,
        _ => Needs::empty(),
    }
}

/// One case for each ordered pair of states.
fn arcs() -> Vec<Case> {
    let states = || State::ALL.into_iter().filter(|s| *s != State::Error);
    let pairs = states().flat_map(|from| states().map(move |to| (from, to)));
    pairs
        .map(|(from, to)| {
            let item = match (from, to) {
                (State::StopCopy, State::PreCopy | State::PreCopyP2p) => "S2",
                _ if from == to => "S4",
                _ => "S1",
            };
            let says = match item {
                "S2" => "STOP_COPY -> PRE_COPY and PRE_COPY_P2P are not permitted (uapi:1188)",
                _ => SAYS_ARC,
            };
            Case::new(
                Group::States,
                format!("{item}.{}-to-{}", short(from), short(to)),
                Needs::MIGRATION | needs(from) | needs(to),
                says,
                move |ctx| arc(ctx, from, to),
            )
        })
        .collect()
}

fn arc(ctx: &mut Ctx, from: State, to: State) -> Outcome {
    // Only RESUMING needs one to be left.
    let image = match from {
        State::Resuming => ctx.dut.own_image()?,
        _ => Vec::new(),
    };
    let _session = ctx.dut.enter(from, &image)?;
    let call = format!("SET {from} -> {to}");
    let result = ctx.dut.set(to);
    let Some(way) = path(ctx.dut.flags(), from, to) else {
        refused(&call, result, &[Errno::INVAL])?;
        return ctx.dut.expect_state(from, "after a refused SET");
    };
    let file = accepted(&call, result)?;
    ctx.dut.expect_state(to, &format!("after {call}"))?;
    let before = way.len().checked_sub(2).and_then(|at| way.get(at));
    let last = *before.unwrap_or(&from);
    let begins = !way.is_empty() && to.has_session() && !last.has_session();
    match (file, begins) {
        (None, true) => deviation!("{call} begins a session and returned no data file"),
        (Some(_), false) => deviation!("{call} begins no session and returned a data file"),
        _ => Ok(()),
    }
}

fn to_error(ctx: &mut Ctx) -> Outcome {
    everywhere(ctx, &[State::Error as u32])
}

fn out_of_range(ctx: &mut Ctx) -> Outcome {
    everywhere(
        ctx,
        &[8, 9, 0x100 + State::Stop as u32, 0x7fff_ffff, u32::MAX],
    )
}

/// In every state these numbers are refused, and nothing moves.
fn everywhere(ctx: &mut Ctx, numbers: &[u32]) -> Outcome {
    let image = ctx.dut.own_image()?;
    for state in ctx.dut.states() {
        let _session = ctx.dut.enter(state, &image)?;
        for &number in numbers {
            let result = ctx.dut.set_number(number);
            refused(format!("SET {state} -> {number}"), result, &[Errno::INVAL])?;
            ctx.dut.expect_state(state, "after a refused SET")?;
        }
        ctx.dut.go(State::Running)?;
    }
    Ok(())
}

fn not_advertised(ctx: &mut Ctx) -> Outcome {
    let flags = ctx.dut.flags();
    let lacking: Vec<u32> = State::ALL
        .into_iter()
        .filter(|state| !flags.has(*state))
        .map(|state| state as u32)
        .collect();
    if lacking.is_empty() {
        skip!("the device has all states");
    }
    everywhere(ctx, &lacking)
}

fn same_state(ctx: &mut Ctx) -> Outcome {
    let image = ctx.dut.own_image()?;
    for state in ctx.dut.states().into_iter().filter(|s| s.has_session()) {
        let Some(file) = ctx.dut.enter(state, &image)? else {
            continue;
        };
        ensure!(
            ctx.dut.go(state)?.is_none(),
            "SET {state} -> {state} returned a data file"
        );
        if state != State::Resuming {
            let (bytes, _) = drain(&file, 4096)?;
            ensure!(
                !bytes.is_empty() || state != State::StopCopy,
                "nothing can be read any more in {state} after SET {state}"
            );
        }
        ctx.dut.go(State::Running)?;
    }
    Ok(())
}

fn one_session(ctx: &mut Ctx) -> Outcome {
    let file = ctx.dut.session(State::PreCopy)?;
    let mut image = drain(&file, 1 << 20)?.0;
    let mut way = vec![State::StopCopy];
    if ctx.dut.flags().p2p() {
        way = vec![
            State::PreCopyP2p,
            State::PreCopy,
            State::PreCopyP2p,
            State::StopCopy,
        ];
    }
    for state in way {
        let from = ctx.dut.get()?;
        ensure!(
            ctx.dut.go(state)?.is_none(),
            "SET {from} -> {state} returned a second data file"
        );
        let (bytes, end) = drain(&file, 4096)?;
        image.extend(bytes);
        let wanted = if state == State::StopCopy {
            End::Eof
        } else {
            End::Idle
        };
        if end != wanted {
            // What read() says at the end of a pre-copy phase is D7's.
            ensure!(state != State::StopCopy, "read() in STOP_COPY said ENOMSG");
        }
    }
    ctx.dut.go(State::Running)?;
    resume(ctx, &image, "over PRE_COPY and back and forth")
}

fn two_ways(ctx: &mut Ctx) -> Outcome {
    let direct = ctx.dut.own_image()?;
    let file = ctx.dut.session(State::PreCopy)?;
    let mut image = drain(&file, 1 << 20)?.0;
    ctx.dut.go(State::StopCopy)?;
    image.extend(drain(&file, 1 << 20)?.0);
    ctx.dut.go(State::Running)?;
    resume(ctx, &direct, "over STOP")?;
    resume(ctx, &image, "over PRE_COPY")
}

/// Writes an image of this device into it and lets it run.
fn resume(ctx: &mut Ctx, image: &[u8], which: &str) -> Outcome {
    let _file = ctx
        .dut
        .enter(State::Resuming, image)
        .map_err(|stop| stop.within(&format!("the image read {which}")))?;
    accepted(
        format!("SET RESUMING -> RUNNING with the image read {which}"),
        ctx.dut.set(State::Running),
    )?;
    ctx.dut.expect_state(State::Running, "after resuming")
}

fn config_space(ctx: &mut Ctx) -> Outcome {
    const CONFIG: u32 = 7;
    let device = ctx.dut.device()?;
    if device.region_size(CONFIG) < 64 {
        skip!("the device has no PCI config space");
    }
    let read = || {
        let mut ids = [0; 4];
        device.region_read(CONFIG, 0, &mut ids).map(|()| ids)
    };
    let running = accepted("reading config space in RUNNING", read())?;
    for state in [State::Stop, State::StopCopy] {
        ctx.dut.go(state)?;
        let ids = accepted(format!("reading config space in {state}"), read())?;
        ensure!(
            ids == running,
            "config space begins with {running:x?} in RUNNING and with {ids:x?} in {state}"
        );
        ctx.dut.expect_state(state, "after reading config space")?;
        ctx.dut.go(State::Running)?;
    }
    Ok(())
}

fn by_itself(ctx: &mut Ctx) -> Outcome {
    let image = ctx.dut.own_image()?;
    for state in ctx.dut.states() {
        let _session = ctx.dut.enter(state, &image)?;
        std::thread::sleep(Duration::from_millis(50));
        ctx.dut.expect_state(state, "50 ms after SET")?;
        ctx.dut.go(State::Running)?;
    }
    Ok(())
}
