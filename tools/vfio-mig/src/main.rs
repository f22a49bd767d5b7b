// SPDX-License-Identifier: Apache-2.0 OR MIT

//! `vfio-mig`: see the library.
#![forbid(unsafe_code)]

use std::{
    io::{self, Write},
    process::ExitCode,
};

use anyhow::Result;
use clap::Parser;
use vfio_mig::{
    advice::one_line,
    cli::{Cli, Command},
    cmd,
    output::{Report, Ui},
};

/// Prints the report; the answer is the exit code.
fn show<R: Report>(ui: &Ui, report: &R) -> Result<u8> {
    ui.print(report)?;
    Ok(u8::from(!report.passed()))
}

fn run(cli: &Cli) -> Result<u8> {
    let ui = Ui::new(cli.json)?;
    match &cli.command {
        Command::List(args) => show(&ui, &cmd::list::run(args, cli.backend)),
        Command::Info(args) => show(&ui, &cmd::info::run(args, cli.backend)?),
        Command::Save(args) => show(&ui, &cmd::save::run(args, cli.backend, &ui)?),
        Command::Load(args) => show(&ui, &cmd::load::run(args, cli.backend, &ui)?),
        Command::Log(args) => cmd::log::run(args, cli.backend, &ui).map(|()| 0),
        Command::Drive(args) => cmd::drive::run(args, cli.backend, &ui).map(|()| 0),
        Command::Mirror(args) => show(&ui, &cmd::mirror::run(args, cli.backend, &ui)?),
        Command::Check(args) => cmd::check::run(args, cli.backend, &ui),
        Command::HoldDataFile => vfio_mig::check::holder::serve().map(|()| 0),
    }
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let level = env_logger::Env::new().filter_or("VFIO_MIG_LOG", "warn,vfio_ioctls=error");
    env_logger::Builder::from_env(level)
        .format_timestamp(None)
        .init();
    match run(&cli) {
        Ok(code) => ExitCode::from(code),
        Err(e) => {
            // Closed outputs have nobody who could be told.
            if cli.json {
                let causes: Vec<String> = e.chain().skip(1).map(ToString::to_string).collect();
                let error = serde_json::json!({ "error": e.to_string(), "causes": causes });
                let _ = writeln!(io::stdout(), "{error}");
            }
            let _ = writeln!(io::stderr(), "vfio-mig: {}", one_line(&e));
            ExitCode::from(2)
        }
    }
}
