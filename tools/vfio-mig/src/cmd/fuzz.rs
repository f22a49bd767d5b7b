// SPDX-License-Identifier: Apache-2.0 OR MIT

//! `fuzz`: random calls for as long as one wants, each sequence from a seed.

use std::{
    collections::BTreeMap,
    fs,
    path::PathBuf,
    time::{Duration, Instant, SystemTime},
};

use anyhow::{Context, Result};
use serde::Serialize;

use crate::{
    check::{
        dut::Dut,
        stream::{layout::Framing, load::Image},
        verdict::{Outcome, Stop},
        walk::subject::Real,
    },
    device::Backend,
    fuzz::{
        call::Call,
        has::Has,
        model::About,
        party,
        run::{compare, kind, rng, Difference, Kind, EPISODE},
        same::Mask,
        streams::{self, measure},
        watchdog::Watchdog,
    },
    output::{Report, Ui},
};

/// Time between two words of progress.
const REPORT_EVERY: Duration = Duration::from_secs(10);

/// Arguments of `fuzz`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The device.
    device: String,

    /// Decides everything random; the clock by default. The report says it.
    #[arg(long)]
    seed: Option<u64>,

    /// First step of the sequence that the seed gives: the episode with it is the first.
    #[arg(long, default_value_t = 0, value_name = "STEP")]
    from: u64,

    /// Steps; whole episodes of 64.
    #[arg(long, default_value_t = 3200)]
    steps: u64,

    /// Only episodes of these kinds.
    #[arg(long, value_enum, value_name = "KIND", value_delimiter = ',')]
    only: Vec<Kind>,

    /// Also lets two threads write to one data file of a device that is not known to bear it: the
    /// kernel may crash.
    #[arg(long)]
    dangerous: bool,

    /// Also writes registers of virtio-net as a guest does, on a DLR function.
    #[arg(long)]
    registers: bool,

    /// Seconds that one episode may take.
    #[arg(long, default_value_t = 600, value_parser = clap::value_parser!(u64).range(1..))]
    deadline: u64,

    /// Makes the calls of a file instead, one a line, as a report has them in `shortest`.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["seed", "from", "steps", "only"])]
    replay: Option<PathBuf>,
}

/// What came of it.
#[derive(Debug, Serialize)]
pub struct Fuzzed {
    device: String,
    seed: u64,
    from: u64,
    steps: u64,
    seconds: f64,
    /// Episodes of each kind.
    episodes: BTreeMap<Kind, u64>,
    /// Damaged streams.
    streams: streams::Tally,
    /// Bytes of a stream, and how many of them change by themselves.
    stream_bytes: usize,
    hidden_bytes: usize,
    difference: Option<Difference>,
}

impl Report for Fuzzed {
    fn human(&self) -> String {
        let rate = self.steps as f64 / self.seconds.max(0.001);
        let mut text = format!(
            "{}: seed {}, steps {} to {}, {:.0} s ({rate:.0} steps/s)\n",
            self.device,
            self.seed,
            self.from,
            self.from + self.steps,
            self.seconds,
        );
        let kinds = self
            .episodes
            .iter()
            .map(|(kind, count)| format!("{count} {kind:?}"));
        let kinds = kinds.collect::<Vec<_>>().join(", ").to_lowercase();
        text += &format!("episodes: {kinds}\n");
        let s = self.streams;
        text += &format!(
            "damaged streams: {} refused by write(), {} by leaving RESUMING, {} without effect, \
             {} of another state ({} saved byte for byte)\n",
            s.by_write, s.by_arc, s.same, s.other, s.exact
        );
        let Some(found) = &self.difference else {
            return text + "no difference\n";
        };
        text += &format!(
            "DIFFERENCE at step {}: {} {}\nthe same again: --seed {} --from {} --steps {EPISODE}\n",
            found.step,
            found.call,
            found.seen,
            self.seed,
            found.step / EPISODE * EPISODE
        );
        for call in &found.shortest {
            let line = serde_json::to_string(call).unwrap_or_default();
            text += &format!("  {line}\n");
        }
        text
    }

    fn passed(&self) -> bool {
        self.difference.is_none()
    }
}

/// What episodes are made on.
struct Bench {
    dut: Dut,
    has: Has,
    image: Image,
    mask: Mask,
}

/// Makes calls until the steps are over, something differs, or the user wants no more.
///
/// # Errors
///
/// There is no such device, it cannot be opened or has no migration, or it cannot be brought back
/// to RUNNING.
pub fn run(args: &Args, backend: Backend, ui: &Ui) -> Result<Fuzzed> {
    let mut dut = Dut::open(&args.device, backend)?;
    dut.migration().context("the device has no migration")?;
    dut.settle()?;
    let mut has = Has {
        flags: dut.flags(),
        logging: dut.has_logging(),
        reset: dut.has_reset(),
        registers: false,
    };
    let mut fuzzed = Fuzzed {
        device: args.device.clone(),
        seed: args.seed.unwrap_or_else(clock),
        from: args.from / EPISODE * EPISODE,
        steps: 0,
        seconds: 0.0,
        episodes: BTreeMap::new(),
        streams: streams::Tally::default(),
        stream_bytes: 0,
        hidden_bytes: 0,
        difference: None,
    };
    let begin = Instant::now();
    match judged(measure(&dut))? {
        Ok((image, mask)) => {
            // Of DLR's functions it is known what registers do.
            has.registers = args.registers && image.layout.framing == Framing::Dlr;
            fuzzed.stream_bytes = image.bytes.len();
            fuzzed.hidden_bytes = mask.hidden();
            let mut bench = Bench {
                dut,
                has,
                image,
                mask,
            };
            fuzz(args, &mut bench, &mut fuzzed, ui)?;
            bench.dut.settle()?;
        }
        Err(seen) => fuzzed.difference = Some(difference(fuzzed.from, "the first stream", seen)),
    }
    fuzzed.seconds = begin.elapsed().as_secs_f64();
    Ok(fuzzed)
}

fn fuzz(args: &Args, bench: &mut Bench, fuzzed: &mut Fuzzed, ui: &Ui) -> Result<()> {
    if let Some(path) = &args.replay {
        let text = fs::read_to_string(path).with_context(|| format!("{}", path.display()))?;
        let calls: Result<Vec<Call>, _> = text.lines().map(serde_json::from_str).collect();
        let calls = calls.with_context(|| format!("{}: one call a line", path.display()))?;
        fuzzed.difference = calls_of(bench, 0, &calls)?;
        fuzzed.steps = calls.len() as u64;
        return Ok(());
    }
    let mut wanted = args.only.clone();
    if wanted.is_empty() {
        wanted = vec![Kind::Calls, Kind::Streams, Kind::Crowd, Kind::Writers];
    }
    if bench.image.layout.framing != Framing::Dlr && !args.dangerous {
        wanted.retain(|kind| *kind != Kind::Writers);
    }
    anyhow::ensure!(
        !wanted.is_empty(),
        "two writers need --dangerous on this device"
    );
    let spinner = ui.spinner();
    let watchdog = Watchdog::new(Duration::from_secs(args.deadline));
    let (begin, mut said) = (Instant::now(), Instant::now());
    while fuzzed.steps < args.steps && fuzzed.difference.is_none() && !ui.stopped() {
        let step = fuzzed.from + fuzzed.steps;
        watchdog.pat(format!("seed {}, step {step}", fuzzed.seed));
        let text = format!("step {step}, {} s", begin.elapsed().as_secs());
        if said.elapsed() >= REPORT_EVERY {
            said = Instant::now();
            log::info!("{text}");
        }
        spinner.set_message(text);
        let mut rng = rng(fuzzed.seed, step / EPISODE);
        let kind = kind(&mut rng, &wanted);
        *fuzzed.episodes.entry(kind).or_default() += 1;
        log::debug!("step {step}: {kind:?}");
        let about = (&bench.image, &bench.mask);
        let outcome = match kind {
            Kind::Calls => {
                let calls = bench.has.sequence(&mut rng, EPISODE as usize);
                fuzzed.difference = calls_of(bench, step, &calls)?;
                Ok(())
            }
            Kind::Streams => {
                bench.dut.settle()?;
                streams::episode(&mut bench.dut, about, &mut rng, &mut fuzzed.streams)
            }
            Kind::Crowd => {
                bench.dut.settle()?;
                party::crowd(&mut bench.dut, bench.has, about, &mut rng)
            }
            Kind::Writers => {
                bench.dut.settle()?;
                party::writers(&mut bench.dut, about, &mut rng)
            }
        };
        if let Err(seen) = judged(outcome)? {
            fuzzed.difference = Some(difference(step, &format!("{kind:?}"), seen));
        }
        fuzzed.steps += EPISODE;
    }
    spinner.finish_and_clear();
    Ok(())
}

fn calls_of(bench: &mut Bench, first: u64, calls: &[Call]) -> Result<Option<Difference>> {
    let about = About {
        has: bench.has,
        image: &bench.image.bytes,
        mask: &bench.mask,
    };
    compare(&mut Real::new(&mut bench.dut), about, first, calls)
}

fn difference(step: u64, call: &str, seen: String) -> Difference {
    Difference {
        step,
        call: call.to_owned(),
        seen,
        shortest: Vec::new(),
    }
}

/// What was seen of a deviation; what could not be carried out is an error.
fn judged<T>(outcome: Outcome<T>) -> Result<Result<T, String>> {
    match outcome {
        Ok(value) => Ok(Ok(value)),
        Err(Stop::Deviation(seen) | Stop::Skip(seen)) => Ok(Err(seen)),
        Err(Stop::Error(e)) => Err(e),
    }
}

fn clock() -> u64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    now.map_or(1, |time| time.as_secs())
}
