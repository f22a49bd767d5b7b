// SPDX-License-Identifier: Apache-2.0 OR MIT

//! `/init` of the guest.

#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    if std::process::id() != 1 {
        eprintln!("dlr-guest is the init of a test guest and runs as process 1 only");
        return ExitCode::FAILURE;
    }
    dlr_guest::init::run();
    ExitCode::FAILURE
}
