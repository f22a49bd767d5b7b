// SPDX-License-Identifier: Apache-2.0 OR MIT

//! The layers of `make test`, from cheap to dear. What cannot run counts as
//! failed, with the reason; nothing is skipped silently.

mod abreast;
mod asserts;
mod bench;
mod cargo;
mod debug;
mod examples;
mod imports;
mod kunit;
mod loops;
mod names;
mod native;
mod order;
mod pool;
mod refused;
mod results;
mod rules;
mod tally;
mod whole;
mod width;

use std::{
    fmt, fs,
    time::{Duration, Instant},
};

use anyhow::Result;

pub use tally::Tally;

use crate::artefacts::{native::Flavour, Workshop};
use abreast::Job;
use tally::Context;

/// A layer by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layer {
    /// Formatting, lints, house rules.
    Style,
    /// Tests of user space on this machine, the model checker among them.
    Host,
    /// The driver builds without a warning and for every kernel that a later layer runs, and what it must
    /// not do does not build.
    Module,
    /// A few passes of `make bench`.
    Bench,
    /// The driver's own tests, natively.
    Native,
    /// The driver's own tests, natively, on a kernel that checks itself, and while allocations fail.
    NativeDebug,
    /// The whole driver on functions of the NIC, natively, on both kernels.
    Whole,
    /// The driver's own tests, natively, on a kernel with our patches for it.
    Upstream,
    /// The driver's own tests, in a host box.
    Kunit,
    /// The driver's own tests and a part of those in host boxes, on a kernel that checks itself.
    Debug,
    /// Tests that start host boxes: the tool and everything end to end.
    Boxes,
}

impl Layer {
    /// Those of `make test`, in the order of their cost. [`Layer::Upstream`] is not among them: it has a
    /// kernel of its own to build. Neither is [`Layer::Kunit`]: [`Layer::Debug`] runs the same in a box.
    pub const ALL: [Self; 9] = [
        Self::Style,
        Self::Host,
        Self::Module,
        Self::Native,
        Self::NativeDebug,
        Self::Whole,
        Self::Bench,
        Self::Debug,
        Self::Boxes,
    ];
}

impl fmt::Display for Layer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Style => "style",
            Self::Host => "host",
            Self::Module => "module",
            Self::Native => "native",
            Self::NativeDebug => "native-debug",
            Self::Whole => "whole",
            Self::Bench => "bench",
            Self::Upstream => "upstream",
            Self::Kunit => "kunit",
            Self::Debug => "debug",
            Self::Boxes => "boxes",
        })
    }
}

/// Runs layers and prints what came out; the last line is the sum.
///
/// # Errors
///
/// The folder for logs cannot be made. Failing tests are no error here.
pub fn run(workshop: &Workshop, layers: &[Layer], only: Option<&str>) -> Result<Tally> {
    let logs = workshop.products().join("logs");
    fs::create_dir_all(&logs)?;
    let context = Context {
        workshop,
        logs,
        only,
    };
    let mut sum = Tally::default();
    let mut lines = Vec::new();
    for layer in layers {
        println!("== {layer}");
        let start = Instant::now();
        let mut tally = Tally::default();
        let ran = match layer {
            Layer::Style => style(&context, &mut tally),
            Layer::Host => cargo::host_tests(&context, &mut tally),
            Layer::Module => module(&context, &mut tally),
            Layer::Native => native::run(&context, &mut tally),
            Layer::Bench => bench::run(&context, &mut tally),
            Layer::Whole => whole::run(&context, &mut tally),
            Layer::NativeDebug => native::run_debug(&context, &mut tally),
            Layer::Upstream => native::run_upstream(&context, &mut tally),
            Layer::Kunit => kunit::run(&context, &mut tally),
            Layer::Debug => debug::run(&context, &mut tally),
            Layer::Boxes => cargo::box_tests(&context, &mut tally),
        };
        if let Err(e) = ran {
            tally.fail(format!("the layer `{layer}` could not run: {e:#}"));
        }
        for failure in &tally.failures {
            println!("FAILED: {failure}");
        }
        lines.push(summary(*layer, &tally, start.elapsed()));
        println!("{}", lines.last().map_or("", String::as_str));
        sum.add(tally);
    }
    println!("== summary");
    for line in lines {
        println!("{line}");
    }
    if let Some(guests) = sum.guests() {
        println!("{guests}");
    }
    println!("{sum}");
    Ok(sum)
}

fn summary(layer: Layer, tally: &Tally, time: Duration) -> String {
    format!("{:<12} {tally} ({} s)", layer.to_string(), time.as_secs())
}

fn style(context: &Context<'_>, tally: &mut Tally) -> Result<()> {
    let tree = context.workshop.tree();
    for (name, broken) in rules::check(tree)? {
        match broken.as_slice() {
            [] => tally.pass(),
            list => tally.fail(format!("{name}:\n  {}", list.join("\n  "))),
        }
    }
    tally.check("rustfmt of user space", cargo::format(context));
    tally.check("clippy of user space", cargo::clippy(context));
    tally.check(
        "rustfmt of the driver",
        context.workshop.format_driver(true),
    );
    Ok(())
}

/// Builds the driver for each kernel that a later layer runs. A build keeps one processor busy, so
/// that some run side by side.
fn module(context: &Context<'_>, tally: &mut Tally) -> Result<()> {
    const CHECKED: &str = "KRUSTFLAGS=-Dwarnings CLIPPY=1";
    let workshop = context.workshop;
    let debug = &Workshop::open()?.debug();
    let driver = |variant: &'static str, what, arguments: &'static str| {
        let build = move |_: &str| workshop.build_module(variant, arguments).map(drop);
        Job::one(variant, what, build)
    };
    let jobs = vec![
        driver(
            "module-checked",
            "build without warnings, clippy's included",
            CHECKED,
        ),
        Job::one(
            "samples-checked",
            "build of the samples without warnings",
            |_| workshop.build_samples("samples-checked", CHECKED).map(drop),
        ),
        driver("module", "build for the host box", ""),
        Job::one("refused", "what safe code cannot do does not build", |_| {
            refused::check(context)
        }),
        Job::one("module-native", "build for the native kernel", |_| {
            workshop.native(Flavour::Plain).map(drop)
        }),
        Job::one(
            "module-native-debug",
            "build for the native kernel that checks itself",
            |_| workshop.native(Flavour::Debug).map(drop),
        ),
        Job::one(
            "module-debug",
            "build for the box's kernel that checks itself",
            |_| debug.module().map(drop),
        ),
    ];
    abreast::run(jobs, width::kernels(), tally, |line| println!("{line}"))
}
