// SPDX-License-Identifier: Apache-2.0 OR MIT

//! `save`: the state of a device into a file.

use std::{
    io::BufWriter,
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use serde::Serialize;

use crate::{
    device::{Backend, Device},
    discover::Sysfs,
    image::{Header, Summary, Writer},
    outfile::OutFile,
    output::{Report, Ui},
    range::human_size,
    session::{pre_copy_round, stop_copy_all, Back, Migratable, SaveStats, Walk},
    state::State,
};

/// Arguments of `save`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The device.
    device: String,

    /// The file; replaced when all is saved. A device, a pipe or /dev/stdout is written as it is.
    file: PathBuf,

    /// Rounds of pre-copy before the device is stopped; 0 stops it at once.
    #[arg(long, default_value_t = 1)]
    rounds: u32,

    /// Milliseconds between two rounds.
    #[arg(long, default_value_t = 100)]
    interval: u64,

    /// Bytes per read() of the data file.
    #[arg(long, default_value = "1M", value_parser = crate::range::parse_size)]
    buffer: u64,
}

/// The report.
#[derive(Debug, Serialize)]
pub struct Saved {
    device: String,
    file: PathBuf,
    #[serde(flatten)]
    summary: Summary,
    rounds: u32,
    reinits: u32,
    total_ms: f64,
    /// Time that the device did not run.
    stopped_ms: f64,
    reset: bool,
}

impl Report for Saved {
    fn human(&self) -> String {
        let mut text = format!(
            "saved {} to {}: {} in pre-copy ({} rounds), {} when stopped, {:.1} ms stopped\n",
            self.device,
            self.file.display(),
            human_size(self.summary.pre_copy_bytes),
            self.rounds,
            human_size(self.summary.stop_copy_bytes),
            self.stopped_ms,
        );
        if self.reset {
            text += "the device had to be reset to run again\n";
        }
        text
    }
}

/// Where a device's image comes from.
fn header(device: &Device) -> Header {
    let node = device.node();
    Header {
        device: node.name.clone(),
        driver: node.driver.clone().unwrap_or_default(),
        pci_id: node.pci_id.clone(),
        flags: device.flags().0,
        kernel: rustix::system::uname()
            .release()
            .to_string_lossy()
            .into_owned(),
    }
}

/// Saves the state of a device.
///
/// # Errors
///
/// The device refuses or the file cannot be written; the device is RUNNING again and there is
/// no half file. What was written in place, to a pipe for example, is an image without its end,
/// which `load` refuses.
pub fn run(args: &Args, backend: Backend, ui: &Ui) -> Result<Saved> {
    let node = Sysfs::default().find(&args.device)?;
    // Before the device, which is reset when it is opened.
    let out = OutFile::open(&args.file)?;
    if out.is_stdout() {
        ui.give_stdout_to_data();
    }
    let device = Device::open(&node, backend)?;
    let mut writer = Writer::new(BufWriter::new(out), &header(&device))?;
    let bar = ui.bytes_bar(&node.name, device.data_size().unwrap_or(0));
    let mut sink = |phase, data: &[u8]| {
        ui.check()?;
        bar.inc(data.len() as u64);
        writer
            .block(phase, data)
            .with_context(|| format!("cannot write the image to {}", args.file.display()))
    };
    let mut buf = vec![0; usize::try_from(args.buffer.clamp(1, 1 << 30))?];

    let begin = Instant::now();
    let mut stats = SaveStats::default();
    let mut walk = Walk::new(&device)?;
    if device.flags().pre_copy() && args.rounds > 0 {
        device.opt_in_precopy_v2();
        walk.to(State::PreCopy)?;
        for round in 0..args.rounds {
            if round > 0 && !ui.sleep(Duration::from_millis(args.interval)) {
                ui.check()?;
            }
            pre_copy_round(&mut walk, &mut stats, &mut buf, &mut sink)?;
        }
    }
    let stop = Instant::now();
    walk.to(State::StopCopy)?;
    stop_copy_all(&mut walk, &mut stats, &mut buf, &mut sink)?;
    let back = walk.back()?;
    let (stopped, total) = (stop.elapsed(), begin.elapsed());
    bar.finish_and_clear();

    let (out, summary) = writer.finish()?;
    let out = out.into_inner().map_err(|e| e.into_error())?;
    out.finish()?;
    Ok(Saved {
        device: node.name,
        file: args.file.clone(),
        summary,
        rounds: stats.rounds,
        reinits: stats.reinits,
        total_ms: total.as_secs_f64() * 1e3,
        stopped_ms: stopped.as_secs_f64() * 1e3,
        reset: back == Back::Reset,
    })
}
