// SPDX-License-Identifier: Apache-2.0 OR MIT

//! `dlr-box`: host boxes by hand.

use std::{io::Write, process::ExitCode, time::Duration};

use anyhow::Result;
use clap::{Parser, Subcommand};
use dlr_testing::{BoxConfig, HostBox, NicConfig};

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

fn main() -> ExitCode {
    env_logger::init();
    let result = match Arguments::parse().command {
        Action::Run(arguments) => run(&arguments),
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
