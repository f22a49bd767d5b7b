// SPDX-License-Identifier: Apache-2.0 OR MIT

//! The reference NIC: one management function and N data functions, each behind a vfio-user
//! socket for an unmodified QEMU. See `--help`.

#![forbid(unsafe_code)]

mod cli;
mod control;
mod limits;
mod management;
mod nic;

use std::io::Write;

use anyhow::Context;
use clap::Parser;

fn main() -> anyhow::Result<()> {
    let args = cli::Args::parse();
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or("info")).init();
    limits::raise(args.functions);
    let nic = nic::Nic::start(&args)?;
    let control = control::listen(&args.dir.join("control.sock"))?;
    // Whoever started the NIC waits for this line.
    println!("ready");
    std::io::stdout().flush().context("standard output")?;
    control::serve(&control, &nic);
    Ok(())
}
