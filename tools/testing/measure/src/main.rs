// SPDX-License-Identifier: Apache-2.0 OR MIT

//! `dlr-measure`: times calls of the VFIO uAPI in a host box, beside counterparts.
//!
//! Prints one line for each pass of each figure, `sample NAME OURS BASELINE COUNT`: nanoseconds that
//! ours and the baseline took, and the number of calls or bytes; `part NAME PART WHOLE COUNT` for
//! what is a part of ours. `make bench` makes figures of them.
#![forbid(unsafe_code)]

mod idle;
mod output;
mod stream;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "dlr-measure", version, about = "Times calls of the VFIO uAPI")]
struct Arguments {
    /// Passes of each figure.
    #[arg(long, global = true, default_value_t = 5)]
    passes: u32,

    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Calls that find nothing to do.
    Idle(idle::Args),
    /// Device state as a stream.
    Stream(stream::Args),
}

fn run(arguments: &Arguments) -> Result<()> {
    match &arguments.what {
        What::Idle(args) => idle::run(args, arguments.passes),
        What::Stream(args) => stream::run(args, arguments.passes),
    }
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("dlr-measure: {e:#}");
            ExitCode::FAILURE
        }
    }
}
