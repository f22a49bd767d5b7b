// SPDX-License-Identifier: Apache-2.0 OR MIT

//! What the box finds under `/dlr`, and its initramfs.

use std::{
    fs::{self, File},
    io::BufWriter,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};

use crate::{artefacts::Artefacts, cpio::Archive};

/// Programs for the box; those that are not built are left out.
const PROGRAMS: &[&str] = &["vfio-mig", "dlr-traffic", "dlr-guest", "dlr-measure"];

/// Sample modules of the kernel that tests use, relative to its build tree.
const SAMPLE_MODULES: &[&str] = &["samples/vfio-mdev/mtty.ko", "drivers/vfio/mdev/mdev.ko"];

/// Fills the folder: `bin/` (in the box's `PATH`), `modules/`, `bzImage`,
/// `guest.cpio`, and the files that the test asked for.
pub(super) fn fill(stage: &Path, artefacts: &Artefacts, files: &[(String, PathBuf)]) -> Result<()> {
    let (bin, modules) = (stage.join("bin"), stage.join("modules"));
    fs::create_dir_all(&bin)?;
    fs::create_dir_all(&modules)?;
    for name in PROGRAMS {
        let source = artefacts.programs.join(name);
        if source.exists() {
            place(&source, &bin.join(name))?;
        }
    }
    for name in SAMPLE_MODULES {
        let source = artefacts.kernel.join(name);
        if let (true, Some(file)) = (source.exists(), source.file_name()) {
            place(&source, &modules.join(file))?;
        }
    }
    if let Some(module) = &artefacts.module {
        place(module, &modules.join("dlr_vfio_pci.ko"))?;
    }
    if let Some(guest) = &artefacts.guest {
        place(guest, &stage.join("guest.cpio"))?;
    }
    place(&artefacts.bzimage(), &stage.join("bzImage"))?;
    for (name, source) in files {
        let target = stage.join(name);
        if let Some(parent) = target.parent() {
            fs::create_dir_all(parent)?;
        }
        place(source, &target)?;
    }
    Ok(())
}

/// Hard link where possible, else a copy. A link stays what it was when a
/// later build replaces the file.
fn place(source: &Path, target: &Path) -> Result<()> {
    if fs::hard_link(source, target).is_ok() {
        return Ok(());
    }
    fs::copy(source, target)
        .map(drop)
        .with_context(|| format!("copy {} to {}", source.display(), target.display()))
}

/// Writes an initramfs that is nothing but the agent.
pub(super) fn write_initramfs(path: &Path, artefacts: &Artefacts) -> Result<()> {
    let agent = artefacts.programs.join("dlr-agent");
    let agent = fs::read(&agent).with_context(|| format!("{}", agent.display()))?;
    let mut archive = Archive::new(BufWriter::new(File::create(path)?));
    for folder in ["dev", "proc", "sys"] {
        archive.directory(folder)?;
    }
    archive.program("init", &agent)?;
    archive.finish()?;
    Ok(())
}
