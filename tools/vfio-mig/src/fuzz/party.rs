// SPDX-License-Identifier: Apache-2.0 OR MIT

//! Episodes of several threads: a crowd, and two writers.

use std::{
    fs::File,
    io::{Read, Write},
    os::unix::net::UnixStream,
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicUsize, Ordering::SeqCst},
    time::Duration,
};

use anyhow::{bail, Context, Result};
use rand::{rngs::SmallRng, Rng};
use rustix::io::Errno;

use super::{
    crowd::{Member, Rules, Shared, THREADS},
    has::Has,
    run::EPISODE,
    same::Mask,
    streams::proof,
};
use crate::{
    check::{
        dut::Dut,
        holder,
        stream::load::{self, Image},
        verdict::{accepted, deviation, ensure, errno_name, name, Outcome},
        ways::Settled,
    },
    state::State,
    sys,
};

/// Name of the hidden command.
pub const COMMAND: &str = "fuzz-crew";

/// Another process of a crowd: this program itself, which gets the device over a Unix socket.
struct Crew {
    child: Child,
    // The other end of its standard input.
    _socket: UnixStream,
    killed: bool,
}

impl Crew {
    fn new(device: std::os::fd::BorrowedFd<'_>, rules: Rules, seed: u64) -> Result<Self> {
        let (socket, theirs) = UnixStream::pair()?;
        let program = std::env::current_exe().context("where is this program?")?;
        let child = Command::new(program)
            .args([COMMAND, &seed.to_string(), &serde_json::to_string(&rules)?])
            .stdin(Stdio::from(std::os::fd::OwnedFd::from(theirs)))
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start another process")?;
        holder::give(&socket, device)?;
        // The crowd begins when it is there: to start takes longer than all calls of a thread.
        (&socket).read_exact(&mut [0])?;
        Ok(Self {
            child,
            _socket: socket,
            killed: false,
        })
    }

    /// Kills it, wherever it is: a call that waits for the device ends with EINTR then.
    fn kill(&mut self) -> Outcome {
        self.killed = true;
        Ok(self.child.kill()?)
    }

    fn finish(self) -> Outcome {
        let output = self.child.wait_with_output()?;
        let said = String::from_utf8_lossy(&output.stdout);
        ensure!(said.trim().is_empty(), "another process: {}", said.trim());
        ensure!(
            self.killed || output.status.success(),
            "another process ended with {}",
            output.status
        );
        Ok(())
    }
}

/// The other process: makes its calls, and prints what was wrong.
///
/// # Errors
///
/// No device came over its standard input.
pub fn crew(seed: u64, rules: &str) -> Result<()> {
    use std::os::fd::AsFd;
    let rules: Rules = serde_json::from_str(rules)?;
    let socket = UnixStream::from(std::io::stdin().as_fd().try_clone_to_owned()?);
    let device = holder::take(&socket)?;
    (&socket).write_all(b"r")?;
    let mut member = Member {
        device: device.as_fd(),
        rules,
        shared: &Shared::default(),
        image: &[],
        first: false,
        state: State::Running,
    };
    if let Err(seen) = member.work(seed, EPISODE / THREADS) {
        writeln!(std::io::stdout(), "{seen}")?;
        bail!("{seen}");
    }
    Ok(())
}

/// Lets a crowd loose on a device. Afterwards the device runs and saves and loads as before.
///
/// # Errors
///
/// A deviation.
pub fn crowd(
    dut: &mut Dut,
    has: Has,
    (image, mask): (&Image, &Mask),
    rng: &mut SmallRng,
) -> Outcome {
    let rules = Rules::draw(&has, rng);
    log::debug!("{rules:?}");
    let seeds: Vec<u64> = (0..=THREADS).map(|_| rng.random()).collect();
    let device = dut.device()?;
    let shared = Shared::default();
    shared.begin();
    let own = seeds.last().copied().unwrap_or_default();
    let mut crew = match rules.process {
        true => Some(Crew::new(device.fd(), rules, own)?),
        false => None,
    };
    let work = |number: usize, seed: u64| {
        let mut member = Member {
            device: device.fd(),
            rules,
            shared: &shared,
            image: &image.bytes,
            first: number == 0,
            state: State::Running,
        };
        member.work(seed, EPISODE / THREADS)
    };
    let results: Vec<Result<(), String>> = std::thread::scope(|scope| {
        let work = &work;
        let members = seeds.iter().take(THREADS as usize).enumerate();
        let threads: Vec<_> = members
            .map(|(number, seed)| scope.spawn(move || work(number, *seed)))
            .collect();
        let mut killed = Ok(());
        if let (Some(crew), Some(delay)) = (&mut crew, rules.killed) {
            std::thread::sleep(Duration::from_micros(delay));
            killed = crew.kill().map_err(|e| format!("{e:?}"));
        }
        let ends = threads.into_iter().map(|thread| thread.join());
        let ends = ends.map(|end| end.unwrap_or_else(|_| Err("a thread has a bug".into())));
        ends.chain([killed]).collect()
    });
    let other = crew.map_or(Ok(()), Crew::finish);
    for result in results {
        if let Err(seen) = result {
            deviation!("{seen} ({rules:?})");
        }
    }
    other.map_err(|e| e.within(&format!("{rules:?}")))?;
    drop((shared, device));
    let settled = dut.settle()?;
    ensure!(
        settled != Settled::Reopened,
        "only closing it helps ({rules:?})"
    );
    proof(dut, image, mask).map_err(|e| e.within(&format!("after {rules:?}")))
}

/// What happens while two threads write.
#[derive(Clone, Copy, Debug)]
enum Meanwhile {
    Nothing,
    Set(State),
    Reset,
}

/// Two threads that write to one data file, whose session may end meanwhile (CVE-2026-74306 was
/// such a race). Afterwards the device runs and saves and loads as before.
///
/// # Errors
///
/// A deviation.
pub fn writers(dut: &mut Dut, (image, mask): (&Image, &Mask), rng: &mut SmallRng) -> Outcome {
    let meanwhile = match rng.random_range(0..4) {
        0 | 1 => Meanwhile::Nothing,
        2 if dut.has_reset() => Meanwhile::Reset,
        _ => Meanwhile::Set([State::Stop, State::Running, State::StopCopy][rng.random_range(0..3)]),
    };
    // Of one cursor the pieces come almost in order, of two everything comes twice.
    let cursors = rng.random_range(1..=2);
    let piece = [1, 32, 64, 1000, 4096, 1 << 16][rng.random_range(0..6)];
    let piece = piece.max(image.bytes.len() / 2048);
    let delay = Duration::from_micros(rng.random_range(0..4000));
    let what = format!("{cursors} cursors, pieces of {piece} bytes, {meanwhile:?} after {delay:?}");
    log::debug!("{what}");
    let file = dut.session(State::Resuming)?;
    let at = [AtomicUsize::new(0), AtomicUsize::new(0)];
    let write = |cursor: &AtomicUsize| -> Result<(), String> {
        loop {
            let from = cursor.fetch_add(piece, SeqCst);
            let part = image.bytes.get(from..).unwrap_or_default();
            let part = part.get(..piece).unwrap_or(part);
            if part.is_empty() {
                return Ok(());
            }
            match rustix::io::write(&file as &File, part) {
                Ok(_) => {}
                Err(Errno::INVAL | Errno::NODEV | Errno::OPNOTSUPP | Errno::NOMEM) => return Ok(()),
                Err(errno) => return Err(format!("write() failed with {}", errno_name(errno))),
            }
        }
    };
    let device = dut.device()?;
    let results: Vec<Result<(), String>> = std::thread::scope(|scope| {
        let write = &write;
        let cursors: Vec<&AtomicUsize> = at.iter().take(cursors).collect();
        let pick = |n: usize| cursors.get(n % cursors.len()).copied();
        let threads: Vec<_> = (0..2)
            .filter_map(|n| pick(n).map(|cursor| scope.spawn(move || write(cursor))))
            .collect();
        std::thread::sleep(delay);
        let ended = match meanwhile {
            Meanwhile::Nothing => Ok(()),
            Meanwhile::Set(state) => match sys::set_state(device.fd(), state as u32) {
                Err(e) if Errno::from_io_error(&e) != Some(Errno::INVAL) => {
                    Err(format!("SET {state} failed with {}", name(&e)))
                }
                _ => Ok(()),
            },
            Meanwhile::Reset => match load::reset(dut) {
                Err(e) => Err(format!("VFIO_DEVICE_RESET failed with {}", name(&e))),
                Ok(()) => Ok(()),
            },
        };
        let ends = threads.into_iter().map(|thread| thread.join());
        let ends = ends.map(|end| end.unwrap_or_else(|_| Err("a thread has a bug".into())));
        ends.chain([ended]).collect()
    });
    drop(device);
    for result in results {
        if let Err(seen) = result {
            deviation!("{seen} ({what})");
        }
    }
    let whole = dut.get()? == State::Resuming && dut.set(State::Stop).is_ok();
    if whole {
        // Every byte came once, or the device is not what it should be.
        let stream = super::streams::saved(dut)?;
        if let Some(how) = super::same::differ(&image.bytes, &stream, mask) {
            deviation!("the stream was taken, and another one is saved: {how} ({what})");
        }
    } else if dut.get()? == State::Resuming {
        accepted("VFIO_DEVICE_RESET", load::reset(dut))?;
    }
    drop(file);
    dut.go(State::Running)?;
    proof(dut, image, mask).map_err(|e| e.within(&what))
}
