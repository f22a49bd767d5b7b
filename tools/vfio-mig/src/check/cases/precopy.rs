// SPDX-License-Identifier: Apache-2.0 OR MIT

//! D11 to D16: VFIO_MIG_GET_PRECOPY_INFO.

use std::{fs::File, io::Read};

use rustix::io::Errno;
use vfio_bindings::bindings::vfio as vb;

use crate::{
    check::{
        verdict::{accepted, ensure, fails, refused, Outcome},
        ways::drain,
        Case, Ctx, Group, Needs,
    },
    state::State,
    sys,
};

const REINIT: u32 = vb::VFIO_PRECOPY_INFO_REINIT;

/// See the module.
pub(super) fn cases() -> Vec<Case> {
    let case = |id, needs, says, run: fn(&mut Ctx) -> Outcome| {
        Case::new(Group::Precopy, id, needs | Needs::PRE_COPY, says, run)
    };
    let (none, p2p) = (Needs::MIGRATION, Needs::P2P);
    vec![
        case(
            "D11.arguments",
            none,
            "another ioctl is ENOTTY, no memory EFAULT, a short argsz EINVAL (vfio.h:302)",
            arguments,
        ),
        case(
            "D11.not-in-stop-copy",
            none,
            "valid only in the PRE_COPY states, EINVAL in any other (uapi:1258)",
            not_in_stop_copy,
        ),
        case(
            "D11.not-in-resuming",
            none,
            "valid only in the PRE_COPY states (uapi:1258)",
            not_in_resuming,
        ),
        case(
            "D12.both-outputs",
            none,
            "initial_bytes and dirty_bytes are outputs (uapi:1262)",
            |ctx| both_outputs(ctx, State::PreCopy),
        ),
        case(
            "D12.both-outputs-p2p",
            p2p,
            "initial_bytes and dirty_bytes are outputs (uapi:1262)",
            |ctx| both_outputs(ctx, State::PreCopyP2p),
        ),
        case(
            "D13.no-reinit-without-opt-in",
            none,
            "REINIT can be reported only after the opt-in to PRECOPY_INFOv2 (uapi:1278)",
            no_reinit,
        ),
        case(
            "D13.flags-after-opt-in",
            none,
            "after the opt-in flags is output: REINIT or nothing (uapi:1269, vfio.h:320)",
            flags_after_opt_in,
        ),
        case(
            "D13.no-reinit-at-first",
            none,
            "REINIT says that new initial data takes the place of what was reported before \
             (uapi:1269): at first nothing was",
            no_reinit_at_first,
        ),
        case(
            "D14.first-report",
            none,
            "initial_bytes starts non-zero, dirty_bytes at zero (uapi:1267, 1286)",
            |ctx| first_report(ctx, State::PreCopy),
        ),
        case(
            "D14.first-report-p2p",
            p2p,
            "initial_bytes starts non-zero, dirty_bytes at zero (uapi:1267, 1286)",
            |ctx| first_report(ctx, State::PreCopyP2p),
        ),
        case(
            "D14.initial-bytes-fall",
            none,
            "initial_bytes decreases as data is read, to zero (uapi:1267, 1283)",
            falls,
        ),
        case(
            "D14.both-zero-when-idle",
            none,
            "the temporary end of stream is where both are zero (uapi:1299)",
            zero_when_idle,
        ),
    ]
}

/// The ioctl with outputs that no device would choose.
fn ask(file: &File, flags: u32, garbage: u64) -> std::io::Result<vb::vfio_precopy_info> {
    let mut info = vb::vfio_precopy_info {
        argsz: size_of::<vb::vfio_precopy_info>() as u32,
        flags,
        initial_bytes: garbage,
        dirty_bytes: garbage,
    };
    sys::precopy_info_raw(file, &mut info).map(|()| info)
}

fn info(file: &File, when: &str) -> Outcome<vb::vfio_precopy_info> {
    accepted(format!("the precopy ioctl {when}"), ask(file, 0, 0))
}

fn arguments(ctx: &mut Ctx) -> Outcome {
    let file = ctx.dut.session(State::PreCopy)?;
    for nr in [20, 22, 17] {
        let result = sys::data_ioctl_nowhere(&file, nr);
        refused(format!("ioctl VFIO_BASE + {nr}"), result, &[Errno::NOTTY])?;
    }
    let nowhere = sys::data_ioctl_nowhere(&file, 21);
    refused("the precopy ioctl at address 0", nowhere, &[Errno::FAULT])?;
    for argsz in [0, 8, 23] {
        let mut short = vb::vfio_precopy_info {
            argsz,
            ..Default::default()
        };
        let result = sys::precopy_info_raw(&file, &mut short);
        refused(
            format!("the precopy ioctl with argsz {argsz}"),
            result,
            &[Errno::INVAL],
        )?;
    }
    let mut long = vb::vfio_precopy_info {
        argsz: 4096,
        ..Default::default()
    };
    accepted(
        "the precopy ioctl with argsz 4096",
        sys::precopy_info_raw(&file, &mut long),
    )
}

fn not_in_stop_copy(ctx: &mut Ctx) -> Outcome {
    let file = ctx.dut.session(State::PreCopy)?;
    ctx.dut.go(State::StopCopy)?;
    let call = "the precopy ioctl in STOP_COPY";
    refused(call, ask(&file, 0, 0), &[Errno::INVAL])?;
    ctx.dut.go(State::Running)?;
    drop(file);
    let direct = ctx.dut.session(State::StopCopy)?;
    refused(call, ask(&direct, 0, 0), &[Errno::INVAL])
}

fn not_in_resuming(ctx: &mut Ctx) -> Outcome {
    let file = ctx.dut.session(State::Resuming)?;
    fails("the precopy ioctl in RESUMING", ask(&file, 0, 0))
}

fn both_outputs(ctx: &mut Ctx, state: State) -> Outcome {
    let file = ctx.dut.session(state)?;
    for when in ["at first", "when all is read"] {
        for garbage in [0x5a5a_5a5a_5a5a_5a5a, 0xa5a5_a5a5_a5a5_a5a5] {
            let call = format!("the precopy ioctl {when}");
            let info = accepted(call, ask(&file, 0, garbage))?;
            for (field, value) in [("initial", info.initial_bytes), ("dirty", info.dirty_bytes)] {
                ensure!(
                    value != garbage,
                    "{field}_bytes is not written {when}: it stays {garbage:#x}"
                );
            }
        }
        drain(&file, 1 << 20)?;
    }
    Ok(())
}

fn no_reinit(ctx: &mut Ctx) -> Outcome {
    // Closing forgets an opt-in of an earlier case.
    ctx.dut.reopen()?;
    let file = ctx.dut.session(State::PreCopy)?;
    for when in ["at first", "when all is read"] {
        let flags = info(&file, when)?.flags;
        ensure!(
            flags & REINIT == 0,
            "flags is {flags:#x} {when}, without the opt-in"
        );
        let flags = accepted("the precopy ioctl", ask(&file, 0xf0f0_f0f0, 0))?.flags;
        if flags != 0xf0f0_f0f0 {
            ctx.note(format!(
                "flags 0xf0f0f0f0 came back as {flags:#x} without the opt-in"
            ));
        }
        drain(&file, 1 << 20)?;
    }
    Ok(())
}

fn flags_after_opt_in(ctx: &mut Ctx) -> Outcome {
    accepted("SET PRECOPY_INFOv2", ctx.dut.opt_in_v2())?;
    let file = ctx.dut.session(State::PreCopy)?;
    for when in ["at first", "when all is read"] {
        for flags in [0, REINIT, u32::MAX, 0xffff_fffe] {
            let info = accepted("the precopy ioctl", ask(&file, flags, 0))?;
            ensure!(
                info.flags & !REINIT == 0,
                "flags {flags:#x} came back as {:#x} {when}",
                info.flags
            );
            if info.flags & REINIT != 0 {
                ensure!(
                    info.dirty_bytes == 0,
                    "REINIT with dirty_bytes {} {when}: it is reset to zero then (uapi:1275)",
                    info.dirty_bytes
                );
            }
        }
        drain(&file, 1 << 20)?;
    }
    Ok(())
}

fn no_reinit_at_first(ctx: &mut Ctx) -> Outcome {
    // Freshly opened, so reset: nothing sets it up anew.
    ctx.dut.reopen()?;
    accepted("SET PRECOPY_INFOv2", ctx.dut.opt_in_v2())?;
    for session in 1..=3 {
        for state in [State::PreCopy, State::PreCopyP2p] {
            if !ctx.dut.flags().has(state) {
                continue;
            }
            let file = ctx.dut.session(state)?;
            for when in ["at first", "asked again"] {
                let flags = info(&file, when)?.flags;
                ensure!(
                    flags & REINIT == 0,
                    "flags is {flags:#x} in {state} {when}, in session {session} of a device that \
                     nothing has set up anew"
                );
            }
            ctx.dut.go(State::Running)?;
        }
    }
    Ok(())
}

fn first_report(ctx: &mut Ctx, state: State) -> Outcome {
    for opted_in in [false, true] {
        if opted_in {
            accepted("SET PRECOPY_INFOv2", ctx.dut.opt_in_v2())?;
        }
        let file = ctx.dut.session(state)?;
        let info = info(&file, "at first")?;
        ensure!(info.initial_bytes != 0, "initial_bytes is 0 at first");
        ensure!(
            info.dirty_bytes == 0,
            "dirty_bytes is {} at first",
            info.dirty_bytes
        );
        ctx.dut.go(State::Running)?;
    }
    Ok(())
}

fn falls(ctx: &mut Ctx) -> Outcome {
    // Without the opt-in it cannot be restarted.
    ctx.dut.reopen()?;
    let mut file = ctx.dut.session(State::PreCopy)?;
    let first = info(&file, "at first")?.initial_bytes;
    let (mut last, mut taken) = (first, 0);
    let piece = usize::try_from((first / 8).clamp(1, 1 << 20))?;
    let mut buffer = vec![0; piece];
    while last > 0 {
        let n = match file.read(&mut buffer) {
            Ok(0) => break,
            Ok(n) => n as u64,
            Err(e) if Errno::from_io_error(&e) == Some(Errno::NOMSG) => break,
            Err(e) => return Err(e.into()),
        };
        taken += n;
        let now = info(&file, "while reading")?.initial_bytes;
        ensure!(
            now <= last,
            "initial_bytes rose from {last} to {now} after {taken} bytes were read"
        );
        last = now;
    }
    // More may become known only when the stream is at its end.
    drain(&file, 1 << 20)?;
    let end = info(&file, "when all is read")?.initial_bytes;
    ensure!(
        end == 0,
        "initial_bytes is {end} when all is read ({first} at first, {taken} bytes read)"
    );
    Ok(())
}

fn zero_when_idle(ctx: &mut Ctx) -> Outcome {
    let file = ctx.dut.session(State::PreCopy)?;
    let mut left = 0;
    // The device may find something new at any time.
    for _ in 0..20 {
        drain(&file, 1 << 20)?;
        let info = info(&file, "when all is read")?;
        ensure!(
            info.flags & REINIT != 0 || info.initial_bytes == 0,
            "initial_bytes is {} when read() has nothing more",
            info.initial_bytes
        );
        left = info.dirty_bytes;
        if left == 0 {
            return Ok(());
        }
    }
    ctx.note(format!(
        "dirty_bytes never became 0, it was {left} last: is the device busy?"
    ));
    Ok(())
}
