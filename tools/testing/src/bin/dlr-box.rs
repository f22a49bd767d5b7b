// SPDX-License-Identifier: Apache-2.0 OR MIT

//! `dlr-box`: host boxes by hand.

#[path = "dlr-box/names.rs"]
mod names;

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};
use dlr_testing::{
    artefacts::{native::Flavour, Workshop},
    bench::{Extent, Part},
    fuzz,
    layers::{self, Layer},
    mutants, soak, BoxConfig, HostBox, NicConfig,
};
use names::{LayerName, PartName};

#[derive(Parser)]
#[command(version, about = "Starts host boxes and builds what they need")]
struct Arguments {
    #[command(subcommand)]
    command: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Runs one shell command in a fresh host box.
    Run(RunArguments),
    /// Builds one artefact and prints its path.
    Build {
        /// Which one.
        what: Artefact,
    },
    /// Runs the layers of `make test`; the last line is the sum.
    Test {
        /// Only these layers (repeatable).
        #[arg(long)]
        layer: Vec<LayerName>,
        /// In the layer `boxes`, only tests whose name contains this.
        #[arg(long)]
        name: Option<String>,
        /// With the kernel that checks itself (lockdep and more), and without guests.
        #[arg(long)]
        debug: bool,
    },
    /// Puts bugs into driver and NIC, one at a time: the test that is named for each has to fail.
    Mutants {
        /// Only those whose id begins with this (repeatable).
        #[arg(long)]
        id: Vec<String>,
    },
    /// Migrates thousands of times, with cancels and faults; the last line counts the checks.
    Soak(soak::Options),
    /// Makes random calls on the whole driver; the last line counts the boots.
    FuzzDriver(fuzz::Options),
    /// Measures what the driver costs; the last line is the path of the figures.
    Bench {
        /// Measures this commit too, and prints both.
        #[arg(long)]
        base: Option<String>,
        /// A few passes only, to see that it works.
        #[arg(long)]
        short: bool,
        /// Only these parts (repeatable).
        #[arg(long)]
        part: Vec<PartName>,
    },
    /// A shell in a host box, on this terminal.
    Shell(MachineArguments),
    /// Builds the driver for a prepared kernel build tree of this machine.
    Module {
        /// The build tree.
        #[arg(long)]
        kdir: PathBuf,
    },
    /// Runs cargo with the variables that the workspace needs.
    Cargo {
        /// Its arguments.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Formats the driver with the kernel's rustfmt and its configuration.
    FormatDriver,
    /// Prints shell commands that set the variables for building by hand.
    Env,
}

/// What the cache can hold.
#[derive(Clone, Copy, clap::ValueEnum)]
enum Artefact {
    /// Root file system of the box.
    Rootfs,
    /// Kernel of box and guests.
    Kernel,
    /// The driver.
    Module,
    /// The native kernel and the driver for it.
    Native,
    /// The native kernel for benchmarks and the driver with its benchmark for it.
    NativeBench,
    /// Kernel, driver and programs for the benchmark in host boxes.
    BoxBench,
    /// The programs.
    Programs,
    /// Everything that a box needs.
    All,
}

/// What to run, and in what kind of box.
#[derive(clap::Args)]
struct RunArguments {
    #[command(flatten)]
    machine: MachineArguments,
    /// Seconds after which the command is ended.
    #[arg(long, default_value_t = 600)]
    timeout: u64,
    /// The command, for `sh -c`.
    #[arg(required = true, last = true)]
    command: Vec<String>,
}

/// The parts of the box.
#[derive(clap::Args)]
struct MachineArguments {
    /// Data functions of the NIC; no NIC at all if 0.
    #[arg(long, default_value_t = 0)]
    functions: u16,
    /// Load the driver and bind the NIC's functions to it.
    #[arg(long)]
    bind: bool,
    /// Memory of the box in MiB.
    #[arg(long, default_value_t = 2560)]
    memory: u32,
    /// Huge pages of 2 MiB for guests.
    #[arg(long, default_value_t = 0)]
    huge_pages: u32,
    /// A further argument of dlr-nic (repeatable).
    #[arg(long, allow_hyphen_values = true)]
    nic_arg: Vec<String>,
    /// A further word of the kernel command line (repeatable).
    #[arg(long)]
    kernel_arg: Vec<String>,
}

impl MachineArguments {
    fn config(&self, name: &str) -> BoxConfig {
        let mut config = BoxConfig::new(name)
            .memory(self.memory)
            .huge_pages(self.huge_pages);
        config.kernel_args.clone_from(&self.kernel_arg);
        if self.functions > 0 {
            config = config.nic(NicConfig::new(self.functions).args(&self.nic_arg));
        }
        config
    }

    fn start(&self, config: BoxConfig) -> Result<HostBox> {
        let host = HostBox::start(config)?;
        if self.bind {
            host.bind_dlr(0)?;
        }
        Ok(host)
    }
}

/// The shell takes the console over, since its own streams are the agent's.
const SHELL: &str = "exec setsid --ctty --wait bash --norc </dev/hvc0 >/dev/hvc0 2>&1";

fn main() -> ExitCode {
    env_logger::init();
    let result = match Arguments::parse().command {
        Action::Run(arguments) => run(&arguments),
        Action::Build { what } => build(what),
        Action::Env => environment(),
        Action::Test { layer, name, debug } => test(&layer, name.as_deref(), debug),
        Action::Mutants { id } => run_mutants(&id),
        Action::Soak(options) => run_soak(&options),
        Action::FuzzDriver(options) => run_fuzz(&options),
        Action::Bench { base, short, part } => bench(base.as_deref(), short, &part),
        Action::Cargo { arguments } => cargo(&arguments),
        Action::FormatDriver => format_driver(),
        Action::Shell(machine) => shell(&machine),
        Action::Module { kdir } => module(&kdir),
    };
    result.unwrap_or_else(|e| {
        eprintln!("dlr-box: {e:#}");
        ExitCode::FAILURE
    })
}

fn run(arguments: &RunArguments) -> Result<ExitCode> {
    let host = arguments.machine.start(arguments.machine.config("run"))?;
    let limit = Duration::from_secs(arguments.timeout);
    let command = arguments.command.join(" ");
    let mut program = host
        .agent()
        .spawn(&["sh", "-c", &command], &[], Some(limit))?;
    program.end_input()?;
    let output = program.follow(limit + Duration::from_secs(30), |output| {
        // A closed terminal is no reason to end the command.
        let _ = std::io::stdout().write_all(&output.stdout);
        let _ = std::io::stdout().flush();
        let _ = std::io::stderr().write_all(&output.stderr);
    })?;
    if !output.success() {
        eprintln!("dlr-box: the command {}", output.ending());
        return Ok(ExitCode::FAILURE);
    }
    host.finish()?;
    Ok(ExitCode::SUCCESS)
}

fn build(what: Artefact) -> Result<ExitCode> {
    let workshop = Workshop::open()?;
    let path = match what {
        Artefact::Rootfs => workshop.rootfs()?,
        Artefact::Kernel => workshop.kernel()?,
        Artefact::Module => workshop
            .module()?
            .context("the tree has no Kbuild, so no driver")?,
        Artefact::Native => workshop.native(Flavour::Plain)?.module,
        Artefact::NativeBench => workshop.bench(workshop.tree(), "bench")?.1,
        Artefact::BoxBench => workshop.release().artefacts()?.kernel,
        Artefact::Programs => workshop.programs()?,
        Artefact::All => {
            workshop.artefacts()?;
            workshop.products().to_path_buf()
        }
    };
    println!("{}", path.display());
    Ok(ExitCode::SUCCESS)
}

fn environment() -> Result<ExitCode> {
    let workshop = Workshop::open()?;
    println!("export DLR_BINDGEN='{}'", workshop.bindgen()?.display());
    println!(
        "export CARGO_TARGET_DIR='{}'",
        workshop.products().join("host").display()
    );
    Ok(ExitCode::SUCCESS)
}

fn test(names: &[LayerName], only: Option<&str>, debug: bool) -> Result<ExitCode> {
    let chosen: Vec<Layer> = match names {
        [] => Layer::ALL.to_vec(),
        names => names.iter().map(|name| (*name).into()).collect(),
    };
    let mut workshop = Workshop::open()?;
    if debug {
        workshop = workshop.debug();
    }
    let tally = layers::run(&workshop, &chosen, only)?;
    Ok(match tally.failed {
        0 => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    })
}

fn run_mutants(ids: &[String]) -> Result<ExitCode> {
    let score = mutants::run(&Workshop::open()?, ids)?;
    Ok(match score.caught == score.all {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}

fn run_soak(options: &soak::Options) -> Result<ExitCode> {
    let figures = soak::run(&Workshop::open()?, options)?;
    Ok(match figures.failures.is_empty() {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}

fn run_fuzz(options: &fuzz::Options) -> Result<ExitCode> {
    Ok(match fuzz::run(&Workshop::open()?, options)? {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}

fn bench(base: Option<&str>, short: bool, names: &[PartName]) -> Result<ExitCode> {
    let extent = if short { Extent::Short } else { Extent::Full };
    let parts: Vec<Part> = match names {
        [] => Part::ALL.to_vec(),
        names => names.iter().map(|name| (*name).into()).collect(),
    };
    let path = dlr_testing::bench::run(&Workshop::open()?, base, extent, &parts)?;
    println!("bench: {}", path.display());
    Ok(ExitCode::SUCCESS)
}

fn module(kdir: &Path) -> Result<ExitCode> {
    let kdir = fs::canonicalize(kdir)
        .with_context(|| format!("KDIR={}: no such kernel build tree", kdir.display()))?;
    let module = Workshop::open()?.build_module_for(&kdir)?;
    println!("{}", module.display());
    Ok(ExitCode::SUCCESS)
}

/// Starts a login shell on the box's second console, which is this terminal.
fn shell(machine: &MachineArguments) -> Result<ExitCode> {
    let mut config = machine.config("shell");
    config.console = true;
    let host = machine.start(config)?;
    eprintln!("dlr-box: this is the host box; leave it with `exit` or ^D");
    let mut program = host.agent().spawn(
        &["sh", "-c", SHELL],
        &[("TERM", "xterm"), ("PS1", "hostbox# ")],
        None,
    )?;
    let output = program.wait(Duration::from_secs(7 * 24 * 3600))?;
    // Its status is that of the last command typed: only its words matter.
    eprint!("{}", String::from_utf8_lossy(&output.stderr));
    host.finish()?;
    Ok(ExitCode::SUCCESS)
}

fn cargo(arguments: &[String]) -> Result<ExitCode> {
    let status = Workshop::open()?.cargo()?.args(arguments).status()?;
    Ok(if status.success() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn format_driver() -> Result<ExitCode> {
    Workshop::open()?.format_driver(false)?;
    Ok(ExitCode::SUCCESS)
}
