// SPDX-License-Identifier: Apache-2.0 OR MIT

//! `vfio-mig`: see the library.
#![forbid(unsafe_code)]

use std::process::ExitCode;

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

fn run(cli: &Cli, ui: &Ui) -> Result<u8> {
    match &cli.command {
        Command::List(args) => show(ui, &cmd::list::run(args, cli.backend)),
        Command::Info(args) => show(ui, &cmd::info::run(args, cli.backend)?),
        Command::Save(args) => show(ui, &cmd::save::run(args, cli.backend, ui)?),
        Command::Load(args) => show(ui, &cmd::load::run(args, cli.backend, ui)?),
        Command::Log(args) => cmd::log::run(args, cli.backend, ui).map(|()| 0),
        Command::Drive(args) => cmd::drive::run(args, cli.backend, ui).map(|()| 0),
        Command::Mirror(args) => show(ui, &cmd::mirror::run(args, cli.backend, ui)?),
        Command::Check(args) => cmd::check::run(args, cli.backend, ui),
        Command::Fuzz(args) => show(ui, &cmd::fuzz::run(args, cli.backend, ui)?),
        Command::FuzzCrew { seed, rules } => vfio_mig::fuzz::party::crew(*seed, rules).map(|()| 0),
        Command::HoldDataFile => vfio_mig::check::holder::serve().map(|()| 0),
    }
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let level = env_logger::Env::new().filter_or("VFIO_MIG_LOG", "warn,vfio_ioctls=error");
    env_logger::Builder::from_env(level)
        .format_timestamp(None)
        .init();
    let ui = match Ui::new(cli.json) {
        Ok(ui) => ui,
        Err(e) => {
            log::error!("{}", one_line(&e));
            return ExitCode::from(2);
        }
    };
    run(&cli, &ui).map_or_else(
        |e| {
            ui.print_error(&e);
            ExitCode::from(2)
        },
        ExitCode::from,
    )
}
