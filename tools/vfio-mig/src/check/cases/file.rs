// SPDX-License-Identifier: Apache-2.0 OR MIT

//! D3, D19, K7, B5: data files in other hands, and after their session.

use std::{
    fs,
    io::Read,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::Context;
use rustix::io::Errno;

use super::dead::expect_dead;
use crate::{
    check::{
        dut::Dut,
        holder::Holder,
        stream::load,
        verdict::{deviation, ensure, errno_name, name, skip, Outcome},
        ways::drain,
        Case, Ctx, Group, Needs,
    },
    state::State,
};

/// How long a driver may take to unbind or bind.
const BINDING: Duration = Duration::from_secs(30);

/// See the module.
pub(super) fn cases() -> Vec<Case> {
    let case = |id, more, says, run: fn(&mut Ctx) -> Outcome| {
        Case::new(Group::File, id, Needs::MIGRATION | more, says, run)
    };
    let none = Needs::empty();
    vec![
        case(
            "D3.dup",
            none,
            "a copy of the descriptor is the same session, one position for both (uapi:1062)",
            dup,
        ),
        case(
            "D3.read-elsewhere",
            none,
            "the file may be handed to another process, which reads the same stream (uapi:1062)",
            read_elsewhere,
        ),
        case(
            "D3.write-elsewhere",
            Needs::PAIR,
            "the file may be handed to another process, which writes the stream (uapi:1062)",
            write_elsewhere,
        ),
        case(
            "D19.left-before-its-end",
            none,
            "leaving the state ends the session, read or not (uapi:1112)",
            left_early,
        ),
        case(
            "D19.closed-first",
            none,
            "the user may close the file at any time: the state can still be left (uapi:1063)",
            closed_first,
        ),
        case(
            "K7.after-the-device",
            none,
            "a file that outlives the device's descriptor fails; opened again, the device knows \
             nothing of it (vfio.h:214)",
            after_device,
        ),
        case(
            "B5.after-the-driver",
            none,
            "a file that outlives the binding of the driver fails and harms no other user \
             (vfio_main.c:418)",
            after_driver,
        ),
    ]
}

/// The states with a session that this device has.
fn sessions(dut: &Dut) -> Vec<State> {
    let states = dut.states().into_iter();
    states.filter(|state| state.has_session()).collect()
}

/// Whole stream of a stopped device, which is left in STOP.
fn reference(dut: &Dut) -> Outcome<Vec<u8>> {
    dut.go(State::Stop)?;
    let bytes = dut.image()?;
    dut.go(State::Stop)?;
    Ok(bytes)
}

fn dup(ctx: &mut Ctx) -> Outcome {
    let all = reference(&ctx.dut)?;
    let one = ctx.dut.session(State::StopCopy)?;
    let mut two = one.try_clone()?;
    let mut seen: Vec<u8> = Vec::new();
    let mut buffer = vec![0; (all.len() / 8).clamp(1, 1 << 16)];
    'all: loop {
        for mut file in [&one, &two] {
            match file.read(&mut buffer) {
                Ok(0) => break 'all,
                Ok(n) => seen.extend(buffer.iter().take(n)),
                Err(e) => deviation!("read() failed with {}", name(&e)),
            }
        }
        ensure!(seen.len() <= all.len() * 2, "the stream has no end");
    }
    ensure!(
        seen == all,
        "two copies of the descriptor in turn gave {} bytes, one gave {}, or other ones",
        seen.len(),
        all.len()
    );
    drop(one);
    ensure!(
        (&two).read(&mut buffer).is_ok_and(|n| n == 0),
        "the copy is dead after the first"
    );
    ctx.dut.go(State::Stop)?;
    expect_dead(ctx, &mut two, State::StopCopy, "(a copy) after it was left")
}

fn read_elsewhere(ctx: &mut Ctx) -> Outcome {
    let all = reference(&ctx.dut)?;
    let file = ctx.dut.session(State::StopCopy)?;
    let mut holder = Holder::new(&file)?;
    drop(file);
    let answer = holder.read()?;
    ensure!(
        answer.errno == 0,
        "read() in another process failed with {}",
        errno_name(Errno::from_raw_os_error(answer.errno))
    );
    ensure!(
        answer.data == all,
        "another process read {} bytes, this one {}, or other ones",
        answer.data.len(),
        all.len()
    );
    ctx.dut.go(State::Running)?;
    held_dead(&mut holder, "after it was left")?;
    ctx.dut.close()?;
    held_dead(&mut holder, "after the device was closed")?;
    ctx.dut.reopen()?;
    let fresh = ctx.dut.session(State::StopCopy)?;
    held_dead(&mut holder, "beside a new session")?;
    drain(&fresh, 1 << 20).map(drop)
}

fn held_dead(holder: &mut Holder, when: &str) -> Outcome {
    let answer = holder.read()?;
    ensure!(
        answer.errno == Errno::NODEV.raw_os_error(),
        "read() in another process {when} gave {} bytes and errno {} instead of ENODEV",
        answer.data.len(),
        answer.errno
    );
    Ok(())
}

fn write_elsewhere(ctx: &mut Ctx) -> Outcome {
    let image = load::save(&ctx.dut)?;
    let pair = ctx.pair()?;
    let file = pair.session(State::Resuming)?;
    let mut holder = Holder::new(&file)?;
    let (first, second) = image.bytes.split_at(image.bytes.len() / 2);
    let here = load::write_parts(&file, [first])?;
    ensure!(here.is_ok(), "the first half was not taken");
    let there = holder.write(second)?;
    ensure!(
        there.errno == 0,
        "the second half failed elsewhere with errno {}",
        there.errno
    );
    pair.go(State::Running)?;
    let late = holder.write(second)?;
    ensure!(
        late.errno == Errno::NODEV.raw_os_error(),
        "write() elsewhere after RESUMING was left: errno {} instead of ENODEV",
        late.errno
    );
    Ok(())
}

fn left_early(ctx: &mut Ctx) -> Outcome {
    for state in sessions(&ctx.dut) {
        if state == State::Resuming {
            continue;
        }
        for bytes in [0, 1, 100] {
            let mut file = ctx.dut.session(state)?;
            let mut buffer = vec![0; bytes];
            if let Err(e) = file.read(&mut buffer) {
                deviation!(
                    "read() of {bytes} bytes in {state} failed with {}",
                    name(&e)
                );
            }
            ctx.dut.go(State::Running)?;
            // Again and again: for good.
            for _ in 0..2 {
                expect_dead(ctx, &mut file, state, "after it was left early")?;
            }
        }
    }
    Ok(())
}

fn closed_first(ctx: &mut Ctx) -> Outcome {
    let dut = &ctx.dut;
    for state in sessions(dut) {
        if state == State::Resuming {
            continue;
        }
        drop(dut.session(state)?);
        dut.expect_state(state, "after its file was closed")?;
        dut.go(State::Running)?;
        let fresh = dut.session(state)?;
        let (bytes, _) = drain(&fresh, 1 << 20)?;
        ensure!(!bytes.is_empty(), "the session after a closed one is empty");
        dut.go(State::Running)?;
    }
    Ok(())
}

fn after_device(ctx: &mut Ctx) -> Outcome {
    for state in sessions(&ctx.dut) {
        let mut file = ctx.dut.session(state)?;
        if state != State::Resuming {
            if let Err(e) = file.read(&mut [0; 16]) {
                deviation!("read() in {state} failed with {}", name(&e));
            }
        }
        ctx.dut.close()?;
        expect_dead(ctx, &mut file, state, "after the device was closed")?;
        ctx.dut.reopen()?;
        let fresh = ctx.dut.session(State::StopCopy)?;
        expect_dead(ctx, &mut file, state, "beside a session of the next user")?;
        drain(&fresh, 1 << 20)?;
        ctx.dut.go(State::Running)?;
    }
    Ok(())
}

/// A driver that can be unbound, and bound again by its own means.
struct Binding {
    device: PathBuf,
    driver: PathBuf,
    name: String,
}

impl Binding {
    fn of(dut: &Dut) -> Outcome<Self> {
        let node = dut.node()?;
        if node.pci_id.is_none() || node.driver_override.is_none() {
            skip!("only tried on PCI functions with a driver_override, to find back");
        }
        let driver = fs::canonicalize(node.path.join("driver"))?;
        Ok(Self {
            device: node.path,
            driver,
            name: node.name,
        })
    }

    fn write(&self, file: &str) -> anyhow::Result<()> {
        let path = self.driver.join(file);
        fs::write(&path, &self.name).with_context(|| format!("cannot write {}", path.display()))
    }

    fn is_bound(&self) -> bool {
        self.device.join("driver").exists()
    }
}

fn wait_until(what: &str, done: impl Fn() -> bool) -> anyhow::Result<()> {
    let begin = Instant::now();
    while !done() {
        anyhow::ensure!(
            begin.elapsed() < BINDING,
            "{what} took longer than {BINDING:?}"
        );
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}

fn after_driver(ctx: &mut Ctx) -> Outcome {
    let binding = Binding::of(&ctx.dut)?;
    let mut files = Vec::new();
    for state in sessions(&ctx.dut) {
        files.push((state, ctx.dut.session(state)?));
        ctx.dut.close()?;
        ctx.dut.reopen()?;
    }
    ctx.dut.close()?;
    binding.write("unbind")?;
    wait_until("unbinding", || !binding.is_bound())?;
    let unbound: Outcome = files
        .iter_mut()
        .try_for_each(|(state, file)| expect_dead(ctx, file, *state, "of an unbound driver"));
    binding.write("bind")?;
    wait_until("binding", || binding.is_bound())?;
    let cdev = |dir: &Path| fs::read_dir(dir).is_ok_and(|mut found| found.next().is_some());
    wait_until("the VFIO device", || cdev(&binding.device.join("vfio-dev")))?;
    unbound?;
    ctx.dut.reopen()?;
    for (state, file) in &mut files {
        expect_dead(ctx, file, *state, "of a driver that was bound again")?;
    }
    drop(files);
    ctx.dut.image().map(drop)
}
