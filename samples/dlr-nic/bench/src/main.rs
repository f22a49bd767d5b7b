// SPDX-License-Identifier: Apache-2.0 OR MIT

//! `dlr-nic-bench`: frames of 4 KiB into fresh pages, with and without a dirty log.
//!
//! Management function and data function are those of `dlr-nic`, in this process; the driver of the
//! data function and that of the management function are here too. Prints a line for each pass,
//! `sample nic.logging ON OFF FRAMES`: nanoseconds of this thread's processor time.
#![forbid(unsafe_code)]

mod guest;
mod host;
mod irq;
mod memory;

use anyhow::{ensure, Result};
use clap::Parser;
use dlr_core::{Delivery, WireRx};
use rustix::time::{clock_gettime, ClockId};

use guest::{Guest, BATCH};
use host::Host;

#[derive(Parser)]
#[command(name = "dlr-nic-bench", version, about)]
struct Arguments {
    /// Passes with and without a log.
    #[arg(long, default_value_t = 9)]
    passes: u32,

    /// Frames in a pass, a fresh page each; rounded up to a power of two.
    #[arg(long, default_value_t = 65_536)]
    frames: u64,
}

/// Bytes of a frame.
const FRAME: usize = 4096;

fn cpu_ns() -> u64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    (time.tv_sec as u64) * 1_000_000_000 + time.tv_nsec as u64
}

/// Processor time that so many frames take. What the drivers do between the batches is not counted.
fn pass(guest: &mut Guest, host: &mut Host, frames: u64, logged: bool) -> Result<u64> {
    let mut frame = vec![0x5a; FRAME];
    frame[..6].copy_from_slice(&guest::MAC);
    let mut spent = 0;
    guest.start_over();
    for _ in 0..frames / BATCH {
        guest.offer();
        let begin = cpu_ns();
        for _ in 0..BATCH {
            ensure!(guest.net.deliver(&frame) == Delivery::Accepted, "no buffer");
        }
        spent += cpu_ns() - begin;
        if logged {
            host.drain()?;
        }
    }
    Ok(spent)
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let frames = arguments.frames.max(BATCH).next_power_of_two();
    let mut host = Host::new()?;
    let mut guest = Guest::new(&host, frames)?;
    // The first round faults all pages in.
    for round in 0..=arguments.passes {
        let off = pass(&mut guest, &mut host, frames, false)?;
        host.log_start(guest.range())?;
        let on = pass(&mut guest, &mut host, frames, true)?;
        let entries = host.log_stop()?;
        // The page of each frame, and those of ring and headers.
        ensure!(
            entries >= frames,
            "{entries} entries for {frames} fresh pages: the log is not whole"
        );
        if round > 0 {
            println!("sample nic.logging {on} {off} {frames}");
        }
    }
    Ok(())
}
