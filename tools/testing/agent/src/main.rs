// SPDX-License-Identifier: Apache-2.0 OR MIT

//! `dlr-agent`: `/init` of the host box.
//!
//! As process 1 it assembles the root file system, starts itself once more as
//! the agent proper, and from then on only reaps orphans. The agent serves
//! requests from the virtio-serial port until it is told to switch off or the
//! host goes away.

mod exec;
mod init;
mod port;
mod serve;

use std::process::ExitCode;

fn main() -> ExitCode {
    let result = if std::env::args().nth(1).as_deref() == Some("serve") {
        serve::serve()
    } else {
        init::run()
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("dlr-agent: {e}");
            ExitCode::FAILURE
        }
    }
}
