// SPDX-License-Identifier: Apache-2.0 OR MIT

//! The scenarios of `Documentation/scenarios.rst` that share a box. `sNN` is their number.

mod blockers;
mod group;
mod hops;
mod rough;
mod source;
mod versions;
mod wide;

use anyhow::Result;
use dlr_testing::e2e::{traffic::Load, Backend, Journey, Lab};
use group::Group;
use libtest_mimic::{run, Arguments};

/// A guest under light traffic in the first of four data functions.
fn start_journey(group: &str) -> Result<Journey> {
    let lab = Lab::start(group, 4, Backend::Iommufd, &[])?;
    Journey::start(lab, &[0], Load::light())
}

fn main() {
    let mut arguments = Arguments::from_args();
    // Each box wants both processors, and the scenarios of a group their order.
    arguments.test_threads = Some(1);
    let source = Group::new("source");
    let hops = Group::new("hops");
    let mut trials = source::trials(&source);
    let blockers = Group::new("blockers");
    trials.extend(hops::trials(&hops));
    let rough = Group::new("rough");
    trials.extend(rough::trials(&rough));
    trials.extend(blockers::trials(&blockers));
    let wide = Group::new("wide");
    let versions = Group::new("wide-versions");
    trials.extend(wide::trials(&wide));
    let booting = Group::new("wide-booting");
    trials.extend(blockers::wide_trials(&booting));
    trials.extend(versions::trials(&versions));
    let distro = Group::new("wide-distro");
    trials.extend(versions::distro_trials(&distro));
    let conclusion = run(&arguments, trials);
    group::print_notes();
    // Those of groups whose last test was not chosen.
    let closed = [
        source.close(),
        hops.close(),
        rough.close(),
        blockers.close(),
        wide.close(),
        versions.close(),
        distro.close(),
        booting.close(),
    ];
    for closed in closed {
        if let Err(e) = closed {
            eprintln!("test end of the box ... FAILED\n{e:?}");
            std::process::exit(101);
        }
    }
    conclusion.exit();
}
