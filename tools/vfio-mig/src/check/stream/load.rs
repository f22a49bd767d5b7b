// SPDX-License-Identifier: Apache-2.0 OR MIT

//! Loading a stream into a device, and what came of it.

use std::{
    fmt,
    fs::File,
    io::{self, Read, Write},
};

use rustix::io::Errno;

use super::layout::Layout;
use crate::{
    check::{
        dut::Dut,
        verdict::{deviation, ensure, name, Outcome},
    },
    state::State,
};

/// Largest read of a stream.
const PIECE: usize = 1 << 20;

/// A stream that was saved.
#[derive(Clone, Debug)]
pub struct Image {
    /// All of it.
    pub bytes: Vec<u8>,
    /// Where it can be cut.
    pub layout: Layout,
}

/// What a device made of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Loaded {
    /// It took it: the device is in STOP.
    Accepted,
    /// A write failed; the bytes before it.
    ByWrite(usize, String),
    /// RESUMING -> STOP failed.
    ByArc(String),
}

impl fmt::Display for Loaded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Accepted => f.write_str("accepted"),
            Self::ByWrite(at, errno) => {
                write!(f, "refused by the write after {at} bytes ({errno})")
            }
            Self::ByArc(errno) => write!(f, "refused by RESUMING -> STOP ({errno})"),
        }
    }
}

/// Saves a stopped device and lets it run again.
///
/// # Errors
///
/// A deviation: it cannot be saved.
pub fn save(dut: &Dut) -> Outcome<Image> {
    let file = dut.session(State::StopCopy)?;
    let image = read_all(&file)?;
    dut.go(State::Running)?;
    Ok(image)
}

/// Saves a device by way of its pre-copy states and lets it run again.
///
/// # Errors
///
/// A deviation: it cannot be saved.
pub fn save_with_pre_copy(dut: &Dut) -> Outcome<Image> {
    let file = dut.session(State::PreCopy)?;
    let (mut bytes, _) = crate::check::ways::drain(&file, PIECE)?;
    let second = dut.go(State::StopCopy)?;
    ensure!(
        second.is_none(),
        "PRE_COPY -> STOP_COPY returned a second data file"
    );
    let rest = read_all(&file)?;
    dut.go(State::Running)?;
    let mut reads = vec![bytes.len()];
    reads.extend(
        rest.layout
            .records
            .iter()
            .map(|record| record.range().len()),
    );
    bytes.extend(rest.bytes);
    let layout = Layout::new(&bytes, &reads);
    Ok(Image { bytes, layout })
}

fn read_all(mut file: &File) -> Outcome<Image> {
    let (mut bytes, mut reads, mut buffer) = (Vec::new(), Vec::new(), vec![0; PIECE]);
    loop {
        match file.read(&mut buffer) {
            Ok(0) => break,
            Ok(n) => {
                bytes.extend(buffer.iter().take(n));
                reads.push(n);
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => deviation!("read() in STOP_COPY failed with {}", name(&e)),
        }
    }
    let layout = Layout::new(&bytes, &reads);
    Ok(Image { bytes, layout })
}

/// Writes all of `parts`; the answer is how much went well before an error.
///
/// # Errors
///
/// A deviation: a write took nothing.
pub fn write_parts<'a>(
    mut file: &File,
    parts: impl IntoIterator<Item = &'a [u8]>,
) -> Outcome<Result<usize, Loaded>> {
    let mut done = 0;
    for mut part in parts {
        while !part.is_empty() {
            match file.write(part) {
                Ok(0) => deviation!("write() of {} bytes took none", part.len()),
                Ok(n) => {
                    done += n;
                    part = part.get(n..).unwrap_or_default();
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Ok(Err(Loaded::ByWrite(done, name(&e)))),
            }
        }
    }
    Ok(Ok(done))
}

/// Loads a stream in `parts` into a device that runs.
///
/// # Errors
///
/// A deviation: it cannot be brought to RESUMING, or a refusal leaves it where it must not be.
pub fn load<'a>(dut: &Dut, parts: impl IntoIterator<Item = &'a [u8]>) -> Outcome<Loaded> {
    let file = dut.session(State::Resuming)?;
    if let Err(refused) = write_parts(&file, parts)? {
        return Ok(refused);
    }
    let Err(e) = dut.set(State::Stop) else {
        return Ok(Loaded::Accepted);
    };
    let state = dut.get()?;
    ensure!(
        matches!(state, State::Resuming | State::Error),
        "RESUMING -> STOP failed with {} and left the device in {state}",
        name(&e)
    );
    Ok(Loaded::ByArc(name(&e)))
}

/// Lets a device run again after [`load`].
///
/// # Errors
///
/// A deviation: it did not take the stream and a reset does not help, or it took it and cannot run.
pub fn run_again(dut: &mut Dut, loaded: &Loaded) -> Outcome {
    if *loaded == Loaded::Accepted {
        dut.go(State::Running)?;
    } else if dut.has_reset() {
        if let Err(e) = reset(dut) {
            deviation!("VFIO_DEVICE_RESET in RESUMING failed with {}", name(&e));
        }
    } else {
        dut.reopen()?;
    }
    dut.expect_state(State::Running, "after the load")
}

/// Resets a device; a contended one (EAGAIN) again.
///
/// # Errors
///
/// The kernel's errno.
pub fn reset(dut: &Dut) -> io::Result<()> {
    for _ in 0..100 {
        match dut.reset() {
            Err(e) if Errno::from_io_error(&e) == Some(Errno::AGAIN) => {
                std::thread::sleep(std::time::Duration::from_millis(20));
            }
            done => return done,
        }
    }
    dut.reset()
}

/// Demands that a device takes a stream and runs with it.
///
/// # Errors
///
/// A deviation: it does not.
pub fn expect_good<'a>(
    dut: &mut Dut,
    parts: impl IntoIterator<Item = &'a [u8]>,
    what: &str,
) -> Outcome {
    let loaded = load(dut, parts)?;
    ensure!(loaded == Loaded::Accepted, "{what} was {loaded}");
    run_again(dut, &loaded)
}
