// SPDX-License-Identifier: Apache-2.0 OR MIT

//! The layers of `make test`, from cheap to dear. What cannot run counts as
//! failed, with the reason; nothing is skipped silently.

mod cargo;
mod kunit;
mod rules;

use std::{
    fmt, fs,
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::Result;

use crate::artefacts::{Artefacts, Workshop};

/// A layer by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layer {
    /// Formatting, lints, house rules.
    Style,
    /// Tests of user space on this machine, the model checker among them.
    Host,
    /// The driver builds without a warning.
    Module,
    /// The driver's own tests, in a host box.
    Kunit,
    /// Tests that start host boxes: the tool and everything end to end.
    Boxes,
}

impl Layer {
    /// All, in the order of their cost.
    pub const ALL: [Self; 5] = [
        Self::Style,
        Self::Host,
        Self::Module,
        Self::Kunit,
        Self::Boxes,
    ];
}

impl fmt::Display for Layer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Style => "style",
            Self::Host => "host",
            Self::Module => "module",
            Self::Kunit => "kunit",
            Self::Boxes => "boxes",
        })
    }
}

/// How many tests ended how.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tally {
    /// Passed.
    pub passed: u32,
    /// Failed.
    pub failed: u32,
    /// Skipped by the test itself, visibly.
    pub skipped: u32,
    /// What failed, one line each.
    pub failures: Vec<String>,
}

impl Tally {
    fn pass(&mut self) {
        self.passed += 1;
    }

    fn fail(&mut self, what: impl Into<String>) {
        self.failed += 1;
        self.failures.push(what.into());
    }

    /// Counts a check that is one test.
    fn check(&mut self, name: &str, outcome: Result<()>) {
        match outcome {
            Ok(()) => self.pass(),
            Err(e) => self.fail(format!("{name}: {e:#}")),
        }
    }

    fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
        self.failures.extend(other.failures);
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} passed, {} failed", self.passed, self.failed)?;
        if self.skipped > 0 {
            write!(f, ", {} skipped", self.skipped)?;
        }
        Ok(())
    }
}

/// What the layers work with.
struct Context<'a> {
    workshop: &'a Workshop,
    logs: PathBuf,
    /// Only tests whose name contains this.
    only: Option<&'a str>,
}

impl Context<'_> {
    /// What boxes need; an error counts as a failure of the layer.
    fn artefacts(&self) -> Result<Artefacts> {
        self.workshop.artefacts()
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
            Layer::Kunit => kunit::run(&context, &mut tally),
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
    println!("{sum}");
    Ok(sum)
}

fn summary(layer: Layer, tally: &Tally, time: Duration) -> String {
    format!("{layer:<8} {tally} ({} s)", time.as_secs())
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

fn module(context: &Context<'_>, tally: &mut Tally) -> Result<()> {
    let build = |variant: &str, arguments: &str| {
        context.workshop.build_module(variant, arguments).map(drop)
    };
    tally.check("build for the host box", build("module", ""));
    tally.check(
        "build without warnings, clippy's included",
        build("module-checked", "KRUSTFLAGS=-Dwarnings CLIPPY=1"),
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_line_has_the_agreed_form() {
        let mut tally = Tally::default();
        tally.pass();
        assert_eq!(tally.to_string(), "1 passed, 0 failed");
        tally.fail("x");
        tally.skipped = 2;
        assert_eq!(tally.to_string(), "1 passed, 1 failed, 2 skipped");
    }
}
