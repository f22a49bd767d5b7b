// SPDX-License-Identifier: Apache-2.0 OR MIT

//! `log`: which pages a device writes.

use std::time::{Duration, Instant};

use anyhow::{bail, Context, Result};
use serde::Serialize;

use crate::{
    advice::{log_refused, refused},
    device::{Backend, Device},
    discover::Sysfs,
    output::{Report, Ui},
    range::{check_loggable, human_size, IovaRange},
};

/// Arguments of `log`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The device.
    device: String,

    /// Range to log: START-END or START+LENGTH, several with commas.
    #[arg(long, default_value = "0+1G", value_delimiter = ',')]
    ranges: Vec<IovaRange>,

    /// Granule to ask for, a power of two; the device chooses.
    #[arg(long, default_value = "4K", value_parser = crate::range::parse_page_size)]
    page_size: u64,

    /// Milliseconds between two reports.
    #[arg(long, default_value_t = 1000)]
    interval: u64,

    /// Number of reports; without it until Ctrl-C.
    #[arg(long)]
    count: Option<u64>,

    /// Name the dirty pages, as runs.
    #[arg(long)]
    pages: bool,
}

/// One report; one line each.
#[derive(Debug, Serialize)]
pub struct Line {
    /// Since the log was started.
    seconds: f64,
    granule: u64,
    dirty_pages: u64,
    tracked_pages: u64,
    bytes_per_second: u64,
    report_us: f64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    runs: Vec<IovaRange>,
}

impl Report for Line {
    fn human(&self) -> String {
        let mut text = format!(
            "{:8.3} s  {:8} of {} pages dirty  {}/s  (report took {:.0} us)\n",
            self.seconds,
            self.dirty_pages,
            self.tracked_pages,
            human_size(self.bytes_per_second),
            self.report_us,
        );
        for run in &self.runs {
            text += &format!("            {run}\n");
        }
        text
    }
}

/// Logs until the count is reached or the user stops it.
///
/// # Errors
///
/// The device has no DMA logging, refuses the ranges, or its log failed.
pub fn run(args: &Args, backend: Backend, ui: &Ui) -> Result<()> {
    check_loggable(&args.ranges, args.page_size).map_err(anyhow::Error::msg)?;
    let node = Sysfs::default().find(&args.device)?;
    let device = Device::open(&node, backend)?;
    if !device.has_logging() {
        bail!("{} has no DMA logging", node.name);
    }
    let log = device
        .log_start(args.page_size, &args.ranges)
        .map_err(|e| log_refused(args.ranges.len(), &e))?;
    let (granule, begin) = (log.granule(), Instant::now());
    let mut last = begin;
    for _ in 0..args.count.unwrap_or(u64::MAX) {
        if !ui.sleep(Duration::from_millis(args.interval)) {
            break;
        }
        let now = Instant::now();
        let (mut dirty, mut tracked, mut runs) = (0, 0, Vec::new());
        for &range in &args.ranges {
            let bitmap = log.report(range, granule).map_err(|e| {
                let what = format!("the log of {range} failed, and every page may be dirty");
                refused(&what, &e)
            })?;
            dirty += bitmap.count();
            tracked += bitmap.pages();
            if args.pages {
                runs.extend(bitmap.runs().map(|run| IovaRange {
                    iova: range.iova + run.start * granule,
                    length: (run.end - run.start) * granule,
                }));
            }
        }
        let seconds = (now - last).as_secs_f64();
        ui.print(&Line {
            seconds: (now - begin).as_secs_f64(),
            granule,
            dirty_pages: dirty,
            tracked_pages: tracked,
            bytes_per_second: ((dirty * granule) as f64 / seconds.max(1e-9)) as u64,
            report_us: now.elapsed().as_secs_f64() * 1e6,
            runs,
        })?;
        last = now;
    }
    log.stop().context("cannot stop DMA logging")
}
