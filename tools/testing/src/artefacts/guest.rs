// SPDX-License-Identifier: Apache-2.0 OR MIT

//! The initramfs of the guests inside the host box.

use std::{
    fs::{self, File},
    io::BufWriter,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};

use crate::cpio::Archive;

/// `/init` while the workspace has no guest program of its own: a shell.
const SHELL_INIT: &str = "#!/bin/busybox sh\n\
    /bin/busybox --install -s /bin\n\
    export PATH=/bin\n\
    mount -t proc proc /proc; mount -t sysfs sysfs /sys; mount -t devtmpfs dev /dev\n\
    exec setsid -c sh </dev/console >/dev/console 2>&1\n";

/// Writes the image from the guest program, if there is one, and busybox.
pub(super) fn build(rootfs: &Path, programs: &Path, products: &Path) -> Result<PathBuf> {
    fs::create_dir_all(products)?;
    let busybox = rootfs.join("usr/bin/busybox");
    let busybox = fs::read(&busybox).with_context(|| format!("{}", busybox.display()))?;
    let fresh = products.join(format!("guest.{}", std::process::id()));
    let mut archive = Archive::new(BufWriter::new(File::create(&fresh)?));
    for folder in ["bin", "dev", "proc", "sys", "run", "tmp", "root"] {
        archive.directory(folder)?;
    }
    archive.program("bin/busybox", &busybox)?;
    archive.link("bin/sh", "busybox")?;
    match fs::read(programs.join("dlr-guest")) {
        Ok(init) => archive.program("init", &init)?,
        Err(_) => archive.program("init", SHELL_INIT.as_bytes())?,
    }
    archive.finish()?;
    // Runs hard-link the image, so it is replaced, never rewritten.
    let path = products.join("guest.cpio");
    fs::rename(fresh, &path)?;
    Ok(path)
}
