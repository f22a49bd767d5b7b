// SPDX-License-Identifier: Apache-2.0 OR MIT

//! What a driver must not be able to do without `unsafe`: a copy of the samples that tries it, in
//! which the compiler has to refuse each attempt and nothing else.

use std::{collections::BTreeSet, fs, ops::RangeInclusive, path::Path};

use anyhow::{bail, ensure, Context as _, Result};

use super::tally::Context;
use crate::artefacts::module::{collect, Project};

/// An attempt.
struct Wrong {
    file: &'static str,
    /// Occurs once in the file.
    find: &'static str,
    with: &'static str,
    /// A line of the compiler.
    error: &'static str,
}

const MOVED_WRITE: &str = "error[E0382]: use of moved value: `write`";
const LIFETIME: &str = "error: lifetime may not live long enough";

const SAFE_ONLY: &str = "error[E0133]: call to unsafe function `kernel::dma::Device::dma_set_mask_and_coherent` is unsafe and requires unsafe block";

const EDU: &str = "samples/vfio/edu.rs";
const BOCHS: &str = "samples/vfio/bochs.rs";

/// The compiler finds all of them in one build: it checks the types of all functions and then their
/// borrows, and an error in one function hides none in another. A name that does not exist would.
const WRONG: &[Wrong] = &[
    // A hook takes the data of a write, and has the core copy it from the user once more.
    Wrong {
        file: EDU,
        find: "let register = write.take_register(&[4, 8])?;",
        with: "let register = write.take_register(&[4, 8])?; write.forward()?;",
        error: MOVED_WRITE,
    },
    // A hook has the core carry out an ioctl twice.
    Wrong {
        file: EDU,
        find: "fn trapped_bars(&self) -> BarSet {",
        with: "fn ioctl(
        _dev: &OpenDevice<'_, Self>,
        ioctl: crate::vfio::call::Ioctl<'_>,
    ) -> Result<c_long> {
        ioctl.forward()?;
        ioctl.forward()
    }
    fn trapped_bars(&self) -> BarSet {",
        error: "error[E0382]: use of moved value: `ioctl`",
    },
    // A hook maps a region twice into one area.
    Wrong {
        file: EDU,
        find: "fn new(_pdev: PciFunction<'_>) -> impl PinInit<Self, Error> {",
        with: "fn mmap(_dev: &OpenDevice<'_, Self>, mmap: crate::vfio::call::Mmap<'_>) -> Result {
        mmap.forward()?;
        mmap.forward()
    }
    fn new(_pdev: PciFunction<'_>) -> impl PinInit<Self, Error> {",
        error: "error[E0382]: use of moved value: `mmap`",
    },
    // A hook has a region described twice, which would add its capabilities twice.
    Wrong {
        file: EDU,
        find: "const NAME: &'static CStr = c\"edu-vfio-pci\";",
        with: "const NAME: &'static CStr = c\"edu-vfio-pci\";
    fn region_info<'a>(
        _dev: &OpenDevice<'_, Self>,
        info: crate::vfio::call::RegionInfo<'a>,
    ) -> Result<crate::vfio::call::Described<'a>> {
        info.forward()?;
        info.forward()
    }",
        error: "error[E0382]: use of moved value: `info`",
    },
    // A driver keeps the function for longer than the callback.
    Wrong {
        file: EDU,
        find: "fn open(_this: Pin<&Self>, _pdev: PciFunction<'_>) -> impl PinInit<(), Error> {",
        with: "fn open(_this: Pin<&Self>, pdev: PciFunction<'_>) -> impl PinInit<(), Error> {
            let _kept: PciFunction<'static> = pdev;",
        error: LIFETIME,
    },
    // A driver keeps the open device for longer than the callback.
    Wrong {
        file: EDU,
        find: "cx.data().get_ref().writes.lock().stop();",
        with: "cx.data().get_ref().writes.lock().stop();
        let _kept: &OpenDevice<'static, Edu> = cx;",
        error: LIFETIME,
    },
    // A driver keeps a BAR for longer than the callback.
    Wrong {
        file: EDU,
        find: "let bar = dev.bar(BAR)?;",
        with: "let bar: Bar<'static> = dev.bar(BAR)?;",
        error: LIFETIME,
    },
    // A driver holds a BAR, with `memory_lock`, whose view and PM reference are gone.
    Wrong {
        file: EDU,
        find: "let bar = bar.hold()?;",
        with: "let bar = cx.bar(BAR)?.hold()?;",
        error: "error[E0716]: temporary value dropped while borrowed",
    },
    // A driver keeps the hardware of another device for longer than its cell, whose unbind would
    // not wait.
    Wrong {
        file: EDU,
        find: "const BAR: u32 = 0;",
        with: "const BAR: u32 = 0;
fn _kept(cell: &crate::ext::bound_cell::BoundCell<(), 4096>) {
    let _kept: Option<crate::ext::bound_cell::Guard<'static, (), 4096>> = cell.enter();
}",
        error: LIFETIME,
    },
    // A driver sets the DMA mask twice: the second time the function may have DMA memory.
    Wrong {
        file: EDU,
        find: "pub(crate) struct EduLog;",
        with: "pub(crate) struct EduLog;
fn _twice(new: crate::ext::dma::Unallocated<'_>) -> Result {
    new.set_mask(kernel::dma::DmaMask::new::<64>())?;
    new.set_mask(kernel::dma::DmaMask::new::<32>()).map(drop)
}",
        error: "error[E0382]: use of moved value: `new`",
    },
    // A driver sets the DMA mask in `unbind`, where the function has DMA memory.
    Wrong {
        file: BOCHS,
        find: "const PICTURE: u32 = 0;",
        with: "const PICTURE: u32 = 0;
fn _unbind(pdev: &kernel::pci::Device<kernel::device::Core<'_>>) -> Result {
    kernel::dma::Device::dma_set_mask_and_coherent(pdev, kernel::dma::DmaMask::new::<32>())
}",
        error: SAFE_ONLY,
    },
    // A driver has a table of ids without a terminator.
    Wrong {
        file: BOCHS,
        find: "const ID_TABLE: IdTable = IdTable::new(&TABLE);",
        with: "const ID_TABLE: IdTable = IdTable::new(&[DeviceId::new(0x1234, 0x1111)]);",
        error: "error[E0308]: mismatched types",
    },
    // A driver holds a BAR and accesses it past the hold, which waits for the hold to end.
    Wrong {
        file: BOCHS,
        find: "let held = registers.hold()?;",
        with: "let held = registers.hold()?;
    registers.read8(0)?;",
        error: "error[E0502]: cannot borrow `registers` as immutable because it is also borrowed as mutable",
    },
    // A driver holds a BAR twice.
    Wrong {
        file: EDU,
        find: "let running = is_running(&bar.hold()?)?;",
        with: "let held = bar.hold()?;
        let running = is_running(&bar.hold()?)?;
        drop(held);",
        error: "error[E0499]: cannot borrow `bar` as mutable more than once at a time",
    },
    // A driver locks the migration state, while an arc has it locked.
    Wrong {
        file: BOCHS,
        find: "Snapshot::start(&format(cx)?, &STATE.read(cx)?, stopped)",
        with: "let bochs = cx.data().get_ref();
        let _locked = migration::Migration::state_lock(bochs).lock(bochs);
        Snapshot::start(&format(cx)?, &STATE.read(cx)?, stopped)",
        error: "error[E0624]: method `lock` is private",
    },
    // A driver gets at the lock of the migration state past its trait.
    Wrong {
        file: BOCHS,
        find: "        Ok(Self::Save::size(STATE.bytes(cx)?))",
        with: "        let _lock = cx.data().get_ref().machine.state_lock();
        Ok(Self::Save::size(STATE.bytes(cx)?))",
        error: "error[E0624]: method `state_lock` is private",
    },
];

/// Builds the copy, which must not succeed.
pub(super) fn check(context: &Context<'_>) -> Result<()> {
    let workshop = context.workshop;
    let tree = workshop.products().join("refused");
    copy(workshop.tree(), &tree)?;
    let log = workshop.products().join("samples-refused/make.log");
    // What is judged is from this build.
    if log.exists() {
        fs::remove_file(&log)?;
    }
    let built = workshop.build_project(&Project::samples(&tree), "samples-refused", "SAMPLES=y");
    ensure!(built.is_err(), "it was built: {built:?}");
    let said = fs::read_to_string(&log).with_context(|| format!("{}", log.display()))?;
    judge(&said, &places(&tree)?).with_context(|| format!("see {}", log.display()))
}

/// Makes the copy anew.
fn copy(tree: &Path, to: &Path) -> Result<()> {
    let mut files = BTreeSet::new();
    for top in Project::samples(tree).sources {
        collect(tree, Path::new(top), &mut files)?;
    }
    if to.is_dir() {
        fs::remove_dir_all(to)?;
    }
    for file in &files {
        let path = to.join(file);
        fs::create_dir_all(path.parent().context("a file has a folder")?)?;
        fs::copy(tree.join(file), path)?;
    }
    for wrong in WRONG {
        let path = to.join(wrong.file);
        let text = fs::read_to_string(&path)?;
        ensure!(
            text.matches(wrong.find).count() == 1,
            "{} does not have `{}` once",
            wrong.file,
            wrong.find
        );
        fs::write(&path, text.replace(wrong.find, wrong.with))?;
    }
    Ok(())
}

/// The lines of each attempt in the copy.
fn places(tree: &Path) -> Result<Vec<RangeInclusive<usize>>> {
    let place = |wrong: &Wrong| {
        let text = fs::read_to_string(tree.join(wrong.file))?;
        let at = text.find(wrong.with).context("the attempt is not there")?;
        let first = text[..at].lines().count().max(1);
        Ok(first..=first + wrong.with.lines().count())
    };
    WRONG.iter().map(place).collect()
}

/// Each error is an attempt's, at its place, and each attempt has one.
fn judge(said: &str, places: &[RangeInclusive<usize>]) -> Result<()> {
    let lines: Vec<_> = said.lines().collect();
    // Each with the line after it, which has the place.
    let mut errors: Vec<_> = lines
        .iter()
        .zip(lines.iter().skip(1).chain([&""]))
        .filter(|(line, _)| line.starts_with("error") && !line.starts_with("error: aborting"))
        .map(|(line, next)| (*line, next.trim()))
        .collect();
    for (wrong, place) in WRONG.iter().zip(places) {
        let is_its = |&(error, at): &(&str, &str)| {
            error == wrong.error
                && at
                    .strip_prefix("--> ")
                    .and_then(|at| at.strip_prefix(wrong.file)?.strip_prefix(':'))
                    .and_then(|at| at.split(':').next()?.parse().ok())
                    .is_some_and(|line| place.contains(&line))
        };
        let Some(found) = errors.iter().position(is_its) else {
            bail!("the compiler lets `{}` through: {errors:?}", wrong.with);
        };
        errors.swap_remove(found);
    }
    ensure!(errors.is_empty(), "other errors: {errors:?}");
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// A copy of this tree with the attempts, and their places.
    fn copied() -> Vec<RangeInclusive<usize>> {
        let tree = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let folder = tempfile::tempdir().unwrap();
        copy(&tree, folder.path()).unwrap();
        places(folder.path()).unwrap()
    }

    #[test]
    fn every_attempt_has_its_place_in_the_tree() {
        for (wrong, place) in WRONG.iter().zip(copied()) {
            let lines = place.end() - place.start();
            assert_eq!(lines, wrong.with.lines().count());
        }
    }

    #[test]
    fn an_attempt_that_compiles_and_another_error_are_failures() {
        let places = copied();
        let mut lines: Vec<_> = WRONG
            .iter()
            .zip(&places)
            .map(|(wrong, place)| {
                format!("{}\n   --> {}:{}:9", wrong.error, wrong.file, place.start())
            })
            .collect();
        lines.push("error: aborting due to 2 previous errors\n".into());
        let said = |lines: &[String]| judge(&lines.join("\n"), &places);
        said(&lines).unwrap();
        assert!(said(&lines[1..]).is_err());
        lines.push("error[E0425]: cannot find value `x` in this scope\n".into());
        assert!(said(&lines).is_err());
        assert!(said(&[]).is_err());
    }

    /// The same words at another place are an error of something else.
    #[test]
    fn an_error_elsewhere_is_not_the_attempts() {
        let places = copied();
        let said = |shift: usize| {
            let lines: Vec<_> = WRONG
                .iter()
                .zip(&places)
                .map(|(wrong, place)| {
                    let line = place.start() + shift;
                    format!("{}\n   --> {}:{line}:9", wrong.error, wrong.file)
                })
                .collect();
            judge(&lines.join("\n"), &places)
        };
        said(0).unwrap();
        assert!(said(1000).is_err());
    }
}
