// SPDX-License-Identifier: Apache-2.0 OR MIT

//! `make precopies`: in how many boxes a guest dies, or anything else fails, while it is migrated. Each
//! pre-copy is cancelled after some four seconds, and the guest has to go on.

use std::{io::Write, process::ExitCode, time::Duration};

use anyhow::{Context, Result};
use clap::Parser;
use dlr_testing::e2e::{traffic::Load, Backend, Journey, Lab, Plan};

/// Pre-copies of one box: the backlog of its guest has room for so many.
const OF_A_BOX: u32 = 25;
/// Time in pre-copy, before the backlog grows.
const HOLD: Duration = Duration::from_secs(2);

/// Vendor and device id of a data function, at the beginning of its configuration space, as printf(1) has
/// them: they are read-only, and the command register follows.
const IDS: &str = r"\364\032\360\020";

/// Starts pre-copies of a guest under traffic and cancels them, and counts the boxes in which a guest dies or
/// anything else fails
#[derive(Parser)]
#[command(name = "dlr-precopies")]
struct Args {
    /// Number of pre-copies
    #[arg(long, default_value_t = 200)]
    count: u32,

    /// Processors of the box on which programs and guests run; there is one more
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=7))]
    cpus: u8,

    /// Model of the box's processors, as QEMU's -cpu has it
    #[arg(long, default_value = "max")]
    cpu: String,

    /// Change the memory map of the box all the while, with a function that is not in use: QEMU then
    /// delivers interrupts twice
    #[arg(long)]
    kicks: bool,

    /// Further word of the command line of the box's kernel, such as kvm_amd.vgif=0
    #[arg(long, value_name = "WORD", allow_hyphen_values = true)]
    kernel_arg: Vec<String>,
}

/// After so many boxes that failed it ends.
const MOST_FAILED: u32 = 10;

/// What came of the pre-copies so far.
#[derive(Default)]
struct Counts {
    precopies: u32,
    boxes: u32,
    /// Boxes whose guest died, or with which anything else went wrong.
    failed: u32,
}

fn main() -> ExitCode {
    env_logger::init();
    let args = Args::parse();
    let mut counts = Counts::default();
    while counts.precopies < args.count && counts.failed < MOST_FAILED {
        counts.boxes += 1;
        let before = counts.precopies;
        let outcome = one_box(&args, &mut counts);
        let done = counts.precopies - before;
        let mut out = std::io::stdout();
        // Progress only: a closed pipe ends nothing.
        let _ = match outcome {
            Ok(()) => writeln!(out, "box {}: {done} pre-copies", counts.boxes),
            Err(e) => {
                counts.failed += 1;
                writeln!(
                    out,
                    "box {}: {done} pre-copies, FAILED: {e:#}",
                    counts.boxes
                )
            }
        };
    }
    println!(
        "{} pre-copies in {} boxes: {} boxes failed",
        counts.precopies, counts.boxes, counts.failed
    );
    ExitCode::from(u8::from(counts.failed > 0))
}

/// Runs pre-copies in a box of their own, until it has had its share or something breaks.
fn one_box(args: &Args, counts: &mut Counts) -> Result<()> {
    let name = format!("precopies-{}", counts.boxes);
    let lab = Lab::start_with(&name, 3, Backend::Iommufd, &[], |mut config| {
        config.cpus = args.cpus;
        config.cpu.clone_from(&args.cpu);
        config.kernel_args.extend(args.kernel_arg.iter().cloned());
        config
    })?;
    let mut journey = Journey::start(lab, &[0], Load::light())?;
    if args.kicks {
        let lab = journey.lab();
        let unused = lab.functions().last().context("no function")?;
        lab.host().spawn(&format!(
            "config=/sys/bus/pci/devices/{unused}/config; \
             while printf '{IDS}\\0\\0' > $config && printf '{IDS}\\2\\0' > $config; do :; done"
        ))?;
    }
    let plan = Plan {
        rounds: 2,
        hold: HOLD,
        ..Plan::default()
    };
    let share = OF_A_BOX.min(args.count - counts.precopies);
    for _ in 0..share {
        let outcome = precopy(&mut journey, &plan);
        journey.lab().blame(outcome)?;
        counts.precopies += 1;
    }
    journey.arrive().map(drop)
}

fn precopy(journey: &mut Journey, plan: &Plan) -> Result<()> {
    let migration = journey.attempt(&[1], plan, true)?;
    anyhow::ensure!(migration.status == "cancelled", "{migration:?}");
    journey.check_alive()
}
