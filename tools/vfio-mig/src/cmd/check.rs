// SPDX-License-Identifier: Apache-2.0 OR MIT

//! `check`: does a device do what the uAPI says?

use std::{
    fs,
    io::Write,
    path::PathBuf,
    time::{Duration, SystemTime},
};

use anyhow::{bail, Context, Result};

use crate::{
    check::{
        cases,
        dut::Dut,
        format::{render, Format},
        report::{CaseResult, Checked, Subject},
        runner::Runner,
        select::{Expected, Selection},
        Case, Ctx,
    },
    device::Backend,
    discover::{two_devices, Sysfs},
    output::{table, Ui},
};

/// Arguments of `check`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The device.
    #[arg(required_unless_present = "list")]
    device: Option<String>,

    /// A second device of the same kind, for cases that move state to it.
    #[arg(long, value_name = "DEV")]
    pair: Option<String>,

    /// Only list the cases.
    #[arg(long)]
    list: bool,

    /// Only these cases: identifiers (L7.stop-twice), items (L7), letters (L), groups (logging) or
    /// globs (`*.reset-*`).
    #[arg(long, value_name = "PATTERN", value_delimiter = ',')]
    only: Vec<String>,

    /// Not these cases; as with --only.
    #[arg(long, value_name = "PATTERN", value_delimiter = ',')]
    exclude: Vec<String>,

    /// Decides everything random; the clock by default. The report says it.
    #[arg(long)]
    seed: Option<u64>,

    /// Seconds that one case may take.
    #[arg(long, default_value_t = 180, value_parser = clap::value_parser!(u64).range(1..))]
    deadline: u64,

    /// Known deviations, one case a line: `ID  # why`. They do not count, but each has to show.
    #[arg(long, value_name = "FILE")]
    expect: Option<PathBuf>,

    /// How to report; --json is `json`.
    #[arg(long, value_enum, default_value_t = Format::Human)]
    format: Format,
}

/// Checks one device; the answer is the exit code.
///
/// # Errors
///
/// There is no such device, it cannot be opened, or a pattern or FILE is malformed. What the cases
/// find is in the report.
pub fn run(args: &Args, backend: Backend, ui: &Ui) -> Result<u8> {
    let selection = Selection::new(&args.only, &args.exclude)?;
    let all = cases::all();
    let chosen: Vec<Case> = all.iter().filter(|c| selection.takes(c)).cloned().collect();
    if chosen.is_empty() {
        bail!("no case is left: see `vfio-mig check --list`");
    }
    if args.list {
        print(&list(&chosen, args, ui)?)?;
        return Ok(0);
    }
    let expected = match &args.expect {
        Some(file) => fs::read_to_string(file)
            .map_err(anyhow::Error::from)
            .and_then(|text| Expected::parse(&text))
            .with_context(|| format!("cannot use {}", file.display()))?,
        None => Expected::default(),
    };
    let device = args.device.as_deref().context("which device?")?;
    let pair = args.pair.as_deref();
    if let Some(pair) = pair {
        two_devices(&Sysfs::default(), device, pair)?;
    }
    let dut = Dut::open(device, backend)?;
    let pair = pair.map(|name| Dut::open(name, backend)).transpose()?;
    let subject = subject(&dut, pair.as_ref())?;
    let seed = args.seed.unwrap_or_else(clock);

    let mut runner = Runner::new(
        Ctx::new(dut, pair),
        Duration::from_secs(args.deadline),
        seed,
    );
    let spinner = ui.spinner();
    let mut results = Vec::new();
    for case in &chosen {
        spinner.set_message(case.id.clone());
        results.push(if ui.stopped() {
            CaseResult::not_run(case, "interrupted")
        } else {
            runner.run(case)
        });
    }
    spinner.finish_and_clear();
    let exists = |id: &str| all.iter().any(|case| case.id == id);
    let report = Checked::new(subject, seed, results, expected, exists);
    let format = if ui.json { Format::Json } else { args.format };
    let choice = anstream::AutoStream::choice(&std::io::stdout());
    print(&render(
        &report,
        format,
        choice != anstream::ColorChoice::Never,
    )?)?;
    Ok(report.exit_code())
}

fn print(text: &str) -> Result<()> {
    std::io::stdout()
        .write_all(text.as_bytes())
        .context("cannot write to standard output")
}

fn list(cases: &[Case], args: &Args, ui: &Ui) -> Result<String> {
    if ui.json || args.format == Format::Json {
        let entry = |case: &Case| {
            serde_json::json!({
                "id": case.id, "group": case.group, "rationale": case.rationale
            })
        };
        let entries: Vec<_> = cases.iter().map(entry).collect();
        return Ok(serde_json::to_string(&entries)? + "\n");
    }
    let row = |case: &Case| {
        vec![
            case.id.clone(),
            case.group.to_string(),
            case.rationale.to_owned(),
        ]
    };
    Ok(table(&cases.iter().map(row).collect::<Vec<_>>()))
}

fn subject(dut: &Dut, pair: Option<&Dut>) -> Result<Subject> {
    Ok(Subject {
        node: dut.node()?,
        backend: dut.backend(),
        migration_flags: dut.flags().names(),
        dma_logging: dut.has_logging(),
        kernel: rustix::system::uname()
            .release()
            .to_string_lossy()
            .into_owned(),
        pair: pair.map(|pair| pair.name().to_owned()),
    })
}

fn clock() -> u64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    now.map_or(1, |time| time.as_nanos() as u64)
}
