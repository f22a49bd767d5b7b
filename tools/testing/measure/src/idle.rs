// SPDX-License-Identifier: Apache-2.0 OR MIT

//! Calls that a VMM makes thousands of times a second, when there is nothing to do: the whole call,
//! user to user, over the same one of a device whose driver does nothing in it.

use std::{fs::File, io, time::Instant};

use anyhow::{Context, Result};
use vfio_mig::{
    device::{Backend, Device, Direction},
    discover::Sysfs,
    state::State,
    sys,
};

use crate::output::sample;

/// Bytes of the range that is reported.
const RANGE: u64 = 1 << 30;
const PAGE: u64 = 4096;
/// `VFIO_DEVICE_FEATURE_MIG_DATA_SIZE`.
const DATA_SIZE: u32 = 9;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// The device that is measured.
    ours: String,
    /// The device that it is compared with.
    base: String,
    /// Calls in a pass.
    #[arg(long, default_value_t = 10_000)]
    calls: u64,
}

/// A device with a log and, when it is asked about pre-copy, in pre-copy.
struct Subject {
    device: Device,
    bitmap: Vec<u64>,
}

impl Subject {
    fn open(name: &str) -> Result<Self> {
        let node = Sysfs::default().find(name)?;
        let device = Device::open(&node, Backend::Auto)?;
        // It ends when the device is closed.
        sys::log_start(device.fd(), PAGE, &[(0, RANGE)])
            .with_context(|| format!("the log of {name}"))?;
        Ok(Self {
            device,
            // Touched: no call meets a page fault.
            bitmap: vec![0; (RANGE / PAGE / 64) as usize],
        })
    }

    fn report(&mut self) -> io::Result<()> {
        sys::log_report(self.device.fd(), 0, RANGE, PAGE, &mut self.bitmap)
    }

    fn data_size(&self) -> io::Result<()> {
        self.device.feature(Direction::Get, DATA_SIZE, 8).map(drop)
    }

    /// Goes to pre-copy, and reads all that is there.
    fn pre_copy(&self) -> Result<File> {
        let file = sys::set_state(self.device.fd(), State::PreCopy as u32)?;
        let file = file.context("pre-copy without a data file")?;
        let mut buffer = vec![0; 1 << 20];
        loop {
            match sys::read(&file, &mut buffer) {
                Ok(0) => break,
                Ok(_) => (),
                Err(e) if e.raw_os_error() == Some(NO_MESSAGE) => break,
                Err(e) => return Err(e).context("reading in pre-copy"),
            }
        }
        Ok(file)
    }

    fn run(&self) -> Result<()> {
        sys::set_state(self.device.fd(), State::Running as u32).context("back to RUNNING")?;
        Ok(())
    }
}

/// `ENOMSG`: nothing to read just now.
const NO_MESSAGE: i32 = 42;

/// Nanoseconds that so many calls take.
fn time(calls: u64, mut call: impl FnMut() -> io::Result<()>) -> io::Result<u128> {
    // What the first call allocates or faults in is no part of it.
    call()?;
    let begin = Instant::now();
    for _ in 0..calls {
        call()?;
    }
    Ok(begin.elapsed().as_nanos())
}

pub(crate) fn run(args: &Args, passes: u32) -> Result<()> {
    let mut ours = Subject::open(&args.ours)?;
    let mut base = Subject::open(&args.base)?;
    let calls = args.calls;
    for _ in 0..passes {
        let a = time(calls, || ours.report()).context("REPORT")?;
        let b = time(calls, || base.report()).context("REPORT of the baseline")?;
        sample("idle.report", a, b, calls);
        let a = time(calls, || ours.data_size()).context("MIG_DATA_SIZE")?;
        let b = time(calls, || base.data_size()).context("MIG_DATA_SIZE of the baseline")?;
        sample("idle.data_size", a, b, calls);
    }
    let files = (ours.pre_copy()?, base.pre_copy()?);
    for _ in 0..passes {
        let ask = |file: &File| sys::precopy_info(file).map(drop);
        let a = time(calls, || ask(&files.0)).context("the precopy ioctl")?;
        let b = time(calls, || ask(&files.1)).context("the precopy ioctl of the baseline")?;
        sample("idle.precopy", a, b, calls);
    }
    ours.run()?;
    base.run()?;
    anyhow::ensure!(
        ours.bitmap.iter().all(|word| *word == 0),
        "the device wrote: these were no idle reports"
    );
    Ok(())
}
