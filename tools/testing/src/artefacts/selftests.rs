// SPDX-License-Identifier: Apache-2.0 OR MIT

//! The VFIO selftests of the kernel (`tools/testing/selftests/vfio`), from the source of the box's
//! kernel, as they are.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::{
    cache::{self, Cache},
    kernel::MOUNTED_AT,
    sandbox::{Sandbox, TREE_AT},
};
use crate::progress;

/// Raised when the recipe below, which works in [`TREE_AT`], changes.
const RECIPE: &str = "1";

/// They need the headers of libuuid, which the box does not; its library is there.
const SCRIPT: &str = "\
    cd /srv && mkdir -p lists/partial cache/archives/partial && \
    apt='-o Dir::State::Lists=/srv/lists -o Dir::Cache=/srv/cache -o APT::Sandbox::User=root' && \
    apt-get $apt update && apt-get $apt download uuid-dev && \
    dpkg-deb --extract *.deb /srv/uuid && rm -rf lists cache *.deb && \
    mkdir -p programs && make -C /kernel/src O=/srv/headers headers && \
    make -C /kernel/src/tools/testing/selftests/vfio OUTPUT=/srv/programs \
        KHDR_INCLUDES='-isystem /srv/headers/usr/include' \
        EXTRA_CFLAGS='-I/srv/uuid/usr/include' LDLIBS=-l:libuuid.so.1";

/// Finds or builds them; returns the folder with the programs.
pub(super) fn ensure(cache: &Cache, rootfs: &Path, kernel: &Path) -> Result<PathBuf> {
    let key = cache::key([RECIPE, &rootfs.to_string_lossy(), &kernel.to_string_lossy()]);
    let entry = cache.entry("selftests", &key, 1, |aside| {
        let mut command = Sandbox::new(rootfs)
            .mount(kernel, MOUNTED_AT, false)
            .mount(aside, TREE_AT, true)
            .command(SCRIPT);
        let log = aside.join("build.log");
        progress::step("VFIO selftests of the kernel", &mut command, &log)
            .context("is the network there?")
    })?;
    Ok(entry.join("programs"))
}
