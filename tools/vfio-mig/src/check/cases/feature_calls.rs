// SPDX-License-Identifier: Apache-2.0 OR MIT

//! F6 to F9: answers of the migration features, and what becomes of a state whose answer is lost.

use std::io::Read;

use rustix::{
    io::Errno,
    process::{getrlimit, setrlimit, Resource, Rlimit},
};
use vfio_bindings::bindings::vfio as vb;

use crate::{
    check::{
        verdict::{accepted, ensure, refused, Outcome},
        ways::drain,
        Case, Ctx, Group, Needs,
    },
    session::Migratable,
    state::State,
    sys,
};

const GET: u32 = vb::VFIO_DEVICE_FEATURE_GET;

/// See the module.
pub(super) fn cases() -> Vec<Case> {
    let case = |id, needs, says, run: fn(&mut Ctx) -> Outcome| {
        Case::new(Group::Feature, id, needs, says, run)
    };
    let mig = Needs::MIGRATION;
    vec![
        case("F6.get-has-no-file", mig,
            "GET of the state: data_fd is -1 (uapi:1070)",
            get_has_no_file),
        case("F6.failed-set-has-no-file", mig,
            "a SET that fails leaves no file: data_fd is -1 (vfio_main.c:972)",
            failed_set_has_no_file),
        case("F7.no-descriptor-left", mig,
            "without a free descriptor SET fails with EMFILE; the device can still leave the state \
             (vfio_main.c:903, uapi:1056)",
            no_descriptor_left),
        case(
            "F7.answer-unwritable",
            mig,
            "a SET whose answer cannot be written is EFAULT; the device can still leave the state \
             (vfio_main.c:920, uapi:1056)",
            answer_unwritable,
        ),
        case("F8.v2-twice", Needs::PRE_COPY,
            "opting in to PRECOPY_INFOv2 works at any time and again (vfio_main.c:1017)",
            v2_twice),
        case("F9.data-size-in-every-state", mig,
            "MIG_DATA_SIZE can be called in each state (uapi:1470)",
            data_size),
        case("F9.data-size-before-the-end", mig,
            "MIG_DATA_SIZE estimates what is required to complete stop copy (uapi:1467): not 0 while \
             bytes are to come",
            data_size_before_the_end),
    ]
}

fn get_has_no_file(ctx: &mut Ctx) -> Outcome {
    let image = ctx.dut.own_image()?;
    let get = GET | vb::VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE;
    for state in ctx.dut.states() {
        let _file = ctx.dut.enter(state, &image)?;
        let echo = accepted(
            "GET of the state",
            ctx.dut.feature(get, 16, [u64::MAX >> 1; 8]),
        )?[0];
        let (number, data_fd) = (echo as u32, (echo >> 32) as u32 as i32);
        ensure!(number == state as u32, "GET says state {number} in {state}");
        ensure!(
            data_fd == -1,
            "GET in {state} says data_fd {data_fd}, not -1"
        );
        ctx.dut.go(State::Running)?;
    }
    Ok(())
}

fn failed_set_has_no_file(ctx: &mut Ctx) -> Outcome {
    for (number, call) in [(State::Error as u32, "SET ERROR"), (8, "SET 8")] {
        let device = ctx.dut.device()?;
        let echo = sys::set_state_echo(device.fd(), number, 16);
        refused(call, echo.result, &[Errno::INVAL])?;
        ensure!(
            echo.data_fd == -1,
            "{call} failed and left data_fd {}, not -1",
            echo.data_fd
        );
    }
    Ok(())
}

/// Gives the limit back, whatever happens.
struct NoDescriptors(Rlimit);

impl Drop for NoDescriptors {
    fn drop(&mut self) {
        if let Err(e) = setrlimit(Resource::Nofile, self.0) {
            log::error!("the limit of open files stays 0: {e}");
        }
    }
}

fn no_descriptor_left(ctx: &mut Ctx) -> Outcome {
    let before = getrlimit(Resource::Nofile);
    let none = Rlimit {
        current: Some(0),
        maximum: before.maximum,
    };
    let limit = NoDescriptors(before);
    setrlimit(Resource::Nofile, none)?;
    let result = ctx.dut.set(State::StopCopy);
    drop(limit);
    refused(
        "SET STOP_COPY without a free descriptor",
        result,
        &[Errno::MFILE],
    )?;
    let state = ctx.dut.get()?;
    accepted(
        format!("SET {state} -> RUNNING afterwards"),
        ctx.dut.set(State::Running),
    )?;
    ctx.dut.expect_state(State::Running, "afterwards")?;
    ctx.dut.image().map(drop)
}

fn answer_unwritable(ctx: &mut Ctx) -> Outcome {
    let image = ctx.dut.own_image()?;
    for state in ctx.dut.states() {
        let result = ctx
            .dut
            .raw(|fd| sys::set_state_unwritable(fd, state as u32));
        let call = format!("SET RUNNING -> {state} with an answer that cannot be written");
        refused(call, result, &[Errno::FAULT])?;
        let now = ctx.dut.get()?;
        if now == State::Resuming {
            // Nobody has its file, so nothing can be written that it might be left with.
            accepted("VFIO_DEVICE_RESET in RESUMING", ctx.dut.reset())?;
        } else {
            accepted(
                format!("SET {now} -> RUNNING afterwards"),
                ctx.dut.set(State::Running),
            )?;
        }
        ctx.dut.expect_state(State::Running, "afterwards")?;
    }
    let _file = ctx.dut.enter(State::Resuming, &image)?;
    accepted(
        "SET RESUMING -> RUNNING afterwards",
        ctx.dut.set(State::Running),
    )
    .map(drop)
}

fn v2_twice(ctx: &mut Ctx) -> Outcome {
    for when in ["in RUNNING", "again", "in PRE_COPY", "after a session"] {
        if when == "in PRE_COPY" {
            ctx.dut.go(State::PreCopy)?;
        }
        accepted(format!("SET PRECOPY_INFOv2 {when}"), ctx.dut.opt_in_v2())?;
        if when == "in PRE_COPY" {
            ctx.dut.go(State::Running)?;
        }
    }
    Ok(())
}

fn data_size(ctx: &mut Ctx) -> Outcome {
    let image = ctx.dut.own_image()?;
    for state in ctx.dut.states() {
        let _file = ctx.dut.enter(state, &image)?;
        let size = accepted(
            format!("MIG_DATA_SIZE in {state}"),
            ctx.dut.device()?.data_size(),
        )?;
        ensure!(
            i64::try_from(size).is_ok(),
            "MIG_DATA_SIZE in {state} is {size:#x}: a negative number?"
        );
        if size == 0 {
            ctx.note(format!(
                "MIG_DATA_SIZE in {state} is 0, with which QEMU refuses to migrate"
            ));
        }
        ctx.dut.expect_state(state, "after MIG_DATA_SIZE")?;
        ctx.dut.go(State::Running)?;
    }
    Ok(())
}

fn data_size_before_the_end(ctx: &mut Ctx) -> Outcome {
    let size = |ctx: &Ctx| accepted("MIG_DATA_SIZE", ctx.dut.data_size());
    let running = size(ctx)?;
    let mut file = ctx.dut.session(State::StopCopy)?;
    let stopped = size(ctx)?;
    let first = accepted("read() of one byte", file.read(&mut [0]))?;
    let begun = size(ctx)?;
    let (rest, _) = drain(&file, 1 << 20)?;
    let bytes = first + rest.len();
    for (state, size) in [("RUNNING", running), ("STOP_COPY", stopped)] {
        ensure!(
            size > 0 || bytes == 0,
            "MIG_DATA_SIZE in {state} is 0, and then the stream has {bytes} bytes"
        );
    }
    ensure!(
        begun > 0 || rest.is_empty(),
        "MIG_DATA_SIZE is 0 after one byte was read, and then {} more bytes come",
        rest.len()
    );
    Ok(())
}
