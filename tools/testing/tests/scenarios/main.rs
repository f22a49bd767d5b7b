// SPDX-License-Identifier: Apache-2.0 OR MIT

//! The scenarios of `Documentation/scenarios.rst` that share a box. `sNN` is their number.

mod address;
mod blocked;
mod blockers;
mod group;
mod hops;
mod hosts;
mod lesser;
mod refusal;
mod reinit;
mod rough;
mod source;
mod versions;
mod wide;

use libtest_mimic::{run, Arguments};

fn main() {
    let mut arguments = Arguments::from_args();
    // Each box wants the machine for itself, and the scenarios of a group their order.
    arguments.test_threads = Some(1);
    let mut listed = vec![
        source::group(),
        hops::group(),
        rough::group(),
        blockers::group(),
        lesser::group(),
        hosts::group(),
        versions::group(),
        versions::distro_group(),
    ];
    if wide::wanted() {
        listed.push(wide::group());
    }
    let (groups, trials): (Vec<_>, Vec<_>) = listed.into_iter().unzip();
    let conclusion = run(&arguments, trials.into_iter().flatten().collect());
    group::print_notes();
    for group in groups {
        if let Err(e) = group.close() {
            eprintln!("test end of the box ... FAILED\n{e:?}");
            std::process::exit(101);
        }
    }
    conclusion.exit();
}
