// SPDX-License-Identifier: Apache-2.0 OR MIT

//! D: the data file of a saving session.

use std::{fs::File, io::Read, time::Duration};

use rustix::{
    event::PollFlags,
    fs::{fcntl_getfl, seek, OFlags, SeekFrom},
    io::{fcntl_getfd, pread, pwrite, Errno, FdFlags},
};

use crate::{
    check::{
        verdict::{accepted, deviation, ensure, name, Outcome},
        ways::{drain, poll, End},
        Case, Ctx, Group, Needs,
    },
    state::State,
};

/// See the module.
pub(super) fn cases() -> Vec<Case> {
    let case = |id, needs, says, run: fn(&mut Ctx) -> Outcome| {
        Case::new(Group::Data, id, needs, says, run)
    };
    let (mig, pre) = (Needs::MIGRATION, Needs::PRE_COPY);
    vec![
        case("D3.close-on-exec", mig,
            "the data file is close-on-exec (vfio_main.c:909)", close_on_exec),
        case("D4.stream", mig,
            "the file is a stream of bytes in order: no seeking, no offsets (uapi:1065)", stream),
        case("D6.any-buffer", mig,
            "read() in any sizes gives the stream; a read of 0 bytes gives none (uapi:1065, read(2))",
            any_buffer),
        case("D7.idle-in-pre-copy", pre,
            "read() at the temporary end of stream is ENOMSG, not 0 (uapi:1303)",
            |ctx| idle(ctx, State::PreCopy)),
        case("D7.idle-in-pre-copy-p2p", pre | Needs::P2P,
            "read() at the temporary end of stream is ENOMSG, not 0 (uapi:1303)",
            |ctx| idle(ctx, State::PreCopyP2p)),
        case("D8.end-of-stream", mig,
            "in STOP_COPY read() returns 0 for ever at the end, and poll readable; never ENOMSG \
             (uapi:1306)",
            end_of_stream),
        case("D8.end-after-pre-copy", pre,
            "in STOP_COPY read() returns 0 for ever at the end, and poll readable; never ENOMSG \
             (uapi:1306)",
            end_after_pre_copy),
        case("D10.poll-sees-data", pre,
            "poll() waits for data: there is some when pre-copy begins (uapi:1267, 1304)",
            poll_sees_data),
        case("D10.poll-waits", pre,
            "the user can wait for more data by poll (uapi:1304): recommended, most drivers do not",
            poll_waits),
    ]
}

fn close_on_exec(ctx: &mut Ctx) -> Outcome {
    for state in [State::StopCopy, State::Resuming] {
        let file = ctx.dut.session(state)?;
        ensure!(
            fcntl_getfd(&file)?.contains(FdFlags::CLOEXEC),
            "the data file of {state} is inherited by exec"
        );
        if state == State::StopCopy {
            ctx.dut.go(State::Running)?;
        }
    }
    Ok(())
}

fn stream(ctx: &mut Ctx) -> Outcome {
    let save = ctx.dut.session(State::StopCopy)?;
    no_offsets(ctx, &save, State::StopCopy)?;
    let image = drain(&save, 4096)?.0;
    ctx.dut.go(State::Running)?;
    let load = ctx.dut.session(State::Resuming)?;
    no_offsets(ctx, &load, State::Resuming)?;
    accepted(
        "write() of the image after pread(), pwrite() and lseek()",
        ctx.dut.write(&load, &image, 4096),
    )?;
    accepted("SET RESUMING -> RUNNING", ctx.dut.set(State::Running)).map(drop)
}

fn no_offsets(ctx: &mut Ctx, file: &File, state: State) -> Outcome {
    let mut buffer = [0; 16];
    let offsets = [
        ("lseek()", seek(file, SeekFrom::Start(1)).map(drop)),
        ("pread()", pread(file, &mut buffer, 0).map(drop)),
        ("pwrite()", pwrite(file, &buffer, 0).map(drop)),
    ];
    for (call, result) in offsets {
        match result {
            Ok(()) => deviation!("{call} on the data file of {state} succeeded"),
            // The wrong way round: EBADF comes first.
            Err(Errno::SPIPE | Errno::BADF) => {}
            Err(e) => ctx.note(format!(
                "{call} in {state}: {}, others say ESPIPE",
                name(&e.into())
            )),
        }
    }
    if fcntl_getfl(file)?.contains(OFlags::APPEND) {
        ctx.note(format!("the data file of {state} is in append mode"));
    }
    Ok(())
}

fn any_buffer(ctx: &mut Ctx) -> Outcome {
    let mut file = ctx.dut.session(State::StopCopy)?;
    let mut image = Vec::new();
    // Single bytes only for a while: a state may have many megabytes.
    'stream: for piece in [1, 7, 64, 511, 4096, 4097]
        .into_iter()
        .chain(std::iter::repeat(1 << 20))
    {
        let none = accepted("read() of 0 bytes", file.read(&mut []))?;
        ensure!(none == 0, "read() of 0 bytes returned {none}");
        let mut buffer = vec![0; piece];
        for _ in 0..200 {
            let n = accepted(format!("read() of {piece} bytes"), file.read(&mut buffer))?;
            ensure!(n <= piece, "read() of {piece} bytes returned {n}");
            if n == 0 {
                break 'stream;
            }
            image.extend(buffer.iter().take(n));
        }
    }
    ctx.dut.go(State::Running)?;
    let _file = ctx.dut.enter(State::Resuming, &image)?;
    accepted(
        "SET RESUMING -> RUNNING with what was read in odd sizes",
        ctx.dut.set(State::Running),
    )
    .map(drop)
}

fn idle(ctx: &mut Ctx, state: State) -> Outcome {
    let mut file = ctx.dut.session(state)?;
    for piece in [1 << 20, 1] {
        let (bytes, end) = drain(&file, piece)?;
        ensure!(
            end == End::Idle,
            "read() in {state} returned 0 after {} bytes, which means the end of the stream",
            bytes.len()
        );
    }
    let none = file.read(&mut []);
    if !matches!(none, Ok(0)) {
        ctx.note(format!("read() of 0 bytes when idle: {none:?}"));
    }
    Ok(())
}

fn at_the_end(file: &mut File) -> Outcome {
    let mut buffer = [0; 4096];
    for _ in 0..3 {
        match file.read(&mut buffer) {
            Ok(0) => {}
            Ok(n) => deviation!("read() returned {n} bytes after it had returned 0 in STOP_COPY"),
            Err(e) => deviation!("read() failed with {} at the end of STOP_COPY", name(&e)),
        }
        let events = poll(file, Duration::from_secs(10))?;
        ensure!(
            events.contains(PollFlags::IN),
            "poll() says {events:?} at the end of STOP_COPY, not readable"
        );
    }
    Ok(())
}

fn end_of_stream(ctx: &mut Ctx) -> Outcome {
    let mut file = ctx.dut.session(State::StopCopy)?;
    let (image, end) = drain(&file, 1 << 16)?;
    ensure!(end == End::Eof, "read() in STOP_COPY said ENOMSG");
    ensure!(
        !image.is_empty(),
        "the state of a stopped device has 0 bytes"
    );
    at_the_end(&mut file)
}

fn end_after_pre_copy(ctx: &mut Ctx) -> Outcome {
    let mut file = ctx.dut.session(State::PreCopy)?;
    drain(&file, 1 << 16)?;
    ctx.dut.go(State::StopCopy)?;
    let (_, end) = drain(&file, 1 << 16)?;
    ensure!(end == End::Eof, "read() in STOP_COPY said ENOMSG");
    at_the_end(&mut file)
}

fn poll_sees_data(ctx: &mut Ctx) -> Outcome {
    let mut file = ctx.dut.session(State::PreCopy)?;
    let events = poll(&file, Duration::from_secs(10))?;
    ensure!(
        events.contains(PollFlags::IN),
        "poll() says {events:?} for 10 s after SET PRE_COPY, not readable"
    );
    let n = accepted("read() after poll() said readable", file.read(&mut [0; 64]))?;
    ensure!(
        n > 0,
        "read() returned 0 in PRE_COPY after poll() said readable"
    );
    Ok(())
}

fn poll_waits(ctx: &mut Ctx) -> Outcome {
    let file = ctx.dut.session(State::PreCopy)?;
    let mut spins = 0;
    for _ in 0..5 {
        drain(&file, 1 << 20)?;
        let events = poll(&file, Duration::from_millis(20))?;
        spins += u32::from(events.contains(PollFlags::IN));
    }
    if spins == 5 {
        ctx.note(
            "poll() says readable when read() has just said there is nothing: a thread that polls spins",
        );
    }
    Ok(())
}
