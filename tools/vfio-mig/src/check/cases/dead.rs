// SPDX-License-Identifier: Apache-2.0 OR MIT

//! D19: data files of sessions that have ended.

use std::{
    fs::File,
    io::{Read, Write},
};

use rustix::io::Errno;

use crate::{
    check::{
        verdict::{deviation, ensure, errno_name, Outcome},
        Case, Ctx, Group, Needs,
    },
    state::State,
    sys,
};

const SAYS: &str =
    "the arc terminates the data transfer session (uapi:1112, 1115, 1135, 1143): its file \
                    neither gives data, nor an end of stream, nor takes any";

/// See the module.
pub(super) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for (from, name, needs) in [
        (State::StopCopy, "stop-copy", Needs::empty()),
        (State::PreCopy, "pre-copy", Needs::PRE_COPY),
        (
            State::PreCopyP2p,
            "pre-copy-p2p",
            Needs::PRE_COPY.union(Needs::P2P),
        ),
        (State::Resuming, "resuming", Needs::empty()),
    ] {
        let needs = needs | Needs::MIGRATION;
        cases.push(Case::new(
            Group::Data,
            format!("D19.dead-after-{name}"),
            needs,
            SAYS,
            move |ctx| dead_after(ctx, from),
        ));
        cases.push(Case::new(
            Group::Data,
            format!("D19.dead-beside-a-newer-{name}"),
            needs,
            SAYS,
            move |ctx| beside_a_newer(ctx, from),
        ));
    }
    cases
}

/// Demands that a file is of no use any more.
pub(super) fn expect_dead(ctx: &mut Ctx, file: &mut File, of: State, when: &str) -> Outcome {
    let (call, result) = if of == State::Resuming {
        ("write()", file.write(&[0; 16]))
    } else {
        ("read()", file.read(&mut [0; 16]))
    };
    match result {
        Ok(0) => deviation!("{call} on the file of {of} {when} returned 0: the end of a stream?"),
        Ok(n) => deviation!("{call} on the file of {of} {when} moved {n} bytes"),
        Err(e) => match Errno::from_io_error(&e) {
            Some(Errno::NODEV) => {}
            Some(Errno::NOMSG | Errno::AGAIN) => {
                deviation!("{call} on the file of {of} {when}: {e}, as if there were more to come")
            }
            other => ctx.note(format!(
                "{call} on the file of {of} {when}: {}, others say ENODEV",
                other.map_or_else(|| e.to_string(), errno_name)
            )),
        },
    }
    if of != State::Resuming {
        ensure!(
            sys::precopy_info(file).is_err(),
            "the precopy ioctl on the file of {of} {when} succeeded"
        );
    }
    Ok(())
}

fn begin(ctx: &Ctx, state: State, image: &[u8]) -> Outcome<File> {
    match ctx.dut.enter(state, image)? {
        Some(file) => Ok(file),
        None => deviation!("SET RUNNING -> {state} returned no data file"),
    }
}

fn dead_after(ctx: &mut Ctx, state: State) -> Outcome {
    let image = ctx.dut.own_image()?;
    let mut file = begin(ctx, state, &image)?;
    ctx.dut.go(State::Running)?;
    expect_dead(ctx, &mut file, state, "after SET RUNNING")
}

fn beside_a_newer(ctx: &mut Ctx, state: State) -> Outcome {
    let image = ctx.dut.own_image()?;
    let mut old = begin(ctx, state, &image)?;
    ctx.dut.go(State::Running)?;
    let newer = begin(ctx, state, &image)?;
    expect_dead(ctx, &mut old, state, "while a newer session is active")?;
    if state != State::Resuming {
        let (bytes, _) = crate::check::ways::drain(&newer, 1 << 16)?;
        ensure!(
            !bytes.is_empty(),
            "the newer session of {state} gives nothing after the old file was used"
        );
    }
    drop(old);
    ctx.dut.go(State::Running).map(drop)
}
