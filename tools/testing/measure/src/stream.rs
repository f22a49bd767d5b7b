// SPDX-License-Identifier: Apache-2.0 OR MIT

//! Device state in reads and writes of 1 MiB, over as many bytes through a pipe whose other end a
//! thread of the kernel has; and what the checksum of these bytes takes in the same kernel.

use std::{
    fs::{self, File},
    io::{Read, Write},
    os::fd::{AsRawFd, OwnedFd},
    time::Instant,
};

use anyhow::{ensure, Context, Result};
use rustix::pipe::{fcntl_setpipe_size, pipe};
use vfio_mig::{
    device::{Backend, Device},
    discover::Sysfs,
    state::State,
    sys,
};

use crate::output::{part, sample};

/// Bytes of one read or write, and what the pipe holds: as much as an unprivileged user may have.
const PIECE: usize = 1 << 20;
/// Bytes of the longest sections of the NIC. The driver computes a checksum of each section.
const SECTION: usize = 15 << 12;
/// What the module `dlr_feed` offers.
const FEED: &str = "/sys/kernel/debug/dlr_feed";

#[derive(clap::Args)]
pub(crate) struct Args {
    /// The function that is saved.
    source: String,
    /// Another one, which is loaded.
    target: String,
}

fn open(name: &str) -> Result<Device> {
    Device::open(&Sysfs::default().find(name)?, Backend::Auto)
}

/// A session of `device`, from RUNNING.
fn session(device: &Device, state: State) -> Result<File> {
    let file = sys::set_state(device.fd(), state as u32).with_context(|| format!("{state}"))?;
    file.with_context(|| format!("{state} without a data file"))
}

fn run_again(device: &Device) -> Result<()> {
    sys::set_state(device.fd(), State::Running as u32).context("back to RUNNING")?;
    Ok(())
}

/// Reads in pieces, to the end or at most `most` bytes; returns nanoseconds and bytes.
fn read_all(file: &mut File, most: usize, image: &mut Vec<u8>) -> Result<(u128, usize)> {
    let mut done = 0;
    let begin = Instant::now();
    while done < most {
        if image.len() < done + PIECE {
            image.resize(done + PIECE, 0);
        }
        let room = image.get_mut(done..done + PIECE).context("room")?;
        match file.read(room).context("reading")? {
            0 => break,
            n => done += n,
        }
    }
    Ok((begin.elapsed().as_nanos(), done))
}

fn write_all(file: &mut File, image: &[u8]) -> Result<u128> {
    let begin = Instant::now();
    for piece in image.chunks(PIECE) {
        file.write_all(piece).context("writing")?;
    }
    Ok(begin.elapsed().as_nanos())
}

/// A pipe; a thread of the kernel does `what` with `bytes` bytes at that end which `theirs` picks.
fn fed(what: &str, bytes: usize) -> Result<File> {
    let (out, into) = pipe()?;
    fcntl_setpipe_size(&into, PIECE)?;
    let (ours, theirs): (OwnedFd, OwnedFd) = match what {
        "fill" => (out, into),
        _ => (into, out),
    };
    let order = format!("{} {bytes}", theirs.as_raw_fd());
    fs::write(format!("{FEED}/{what}"), order)
        .with_context(|| format!("{FEED}: is the module dlr_feed loaded?"))?;
    Ok(ours.into())
}

/// Nanoseconds that the kernel's CRC-32C takes for these bytes, in pieces as long as sections.
fn checksum(image: &[u8]) -> Result<u128> {
    let sum = format!("{FEED}/checksum_ns");
    fs::write(&sum, "0").with_context(|| sum.clone())?;
    let path = format!("{FEED}/checksum");
    let mut file = File::options()
        .write(true)
        .open(&path)
        .with_context(|| path.clone())?;
    for piece in image.chunks(SECTION) {
        let done = file.write(piece).with_context(|| path.clone())?;
        ensure!(done == piece.len(), "{path} takes {done} bytes");
    }
    let spent = fs::read_to_string(&sum)?;
    spent
        .trim()
        .parse()
        .with_context(|| format!("{sum}: {spent:?}"))
}

pub(crate) fn run(args: &Args, passes: u32) -> Result<()> {
    let (source, target) = (open(&args.source)?, open(&args.target)?);
    let (mut image, mut through) = (Vec::new(), Vec::new());
    // The first pass faults the memory of both in, and is not told.
    for pass in 0..=passes {
        let mut file = session(&source, State::StopCopy)?;
        let (ours, bytes) = read_all(&mut file, usize::MAX, &mut image).context("save")?;
        run_again(&source)?;
        drop(file);
        // Not to the end: when the last reference to a file is a thread's of the kernel, it goes later.
        let (base, piped) = read_all(&mut fed("fill", bytes)?, bytes, &mut through)?;
        ensure!(piped == bytes, "{piped} of {bytes} bytes came through");
        let state = image.get(..bytes).context("image")?;

        let mut file = session(&target, State::Resuming)?;
        let load = write_all(&mut file, state).context("load")?;
        run_again(&target)?;
        drop(file);
        let emptied = write_all(&mut fed("empty", bytes)?, state)?;
        let checked = checksum(state)?;
        if pass > 0 {
            sample("stream.save", ours, base, bytes as u64);
            sample("stream.load", load, emptied, bytes as u64);
            part("stream.load.checksum", checked, load, bytes as u64);
        }
    }
    Ok(())
}
