// SPDX-License-Identifier: Apache-2.0 OR MIT

//! A kernel as Debian ships it, for guests: image and the modules that the guest's devices need.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::{
    cache::{self, Cache},
    sandbox::{Sandbox, TREE_AT},
};
use crate::progress;

/// Raised when the recipe below, which works in [`TREE_AT`], changes.
const RECIPE: &str = "1";

/// Where the guest's first program is in this initramfs: it loads the modules and runs `/init`.
pub(crate) const FIRST_PROGRAM: &str = "/distro-init";

/// Downloads with the root file system's apt, whose own lists stay as they are, and packs the
/// modules in the order in which they have to be loaded.
const SCRIPT: &str = r#"
cd /srv && mkdir -p lists/partial cache/archives/partial tree initrd/modules
apt='-o Dir::State::Lists=/srv/lists -o Dir::Cache=/srv/cache -o APT::Sandbox::User=root'
apt-get $apt update
apt-get $apt download linux-image-cloud-amd64/trixie
apt-get $apt download "$(dpkg-deb --field linux-image-cloud-*.deb Depends | sed 's/ .*//')/trixie"
for deb in *.deb; do dpkg-deb --extract $deb tree; done
[ -e tree/lib ] || ln -s usr/lib tree/lib
version=$(ls tree/lib/modules)
depmod --basedir tree $version
number=100
for module in virtio_pci virtio_net virtio_console; do
    modprobe --dirname /srv/tree --set-version $version --show-depends $module
done | awk '$1 == "insmod" && !seen[$2]++ { print $2 }' | while read path; do
    name=initrd/modules/$number-$(basename $path .xz)
    case $path in *.xz) xz -dc $path > $name ;; *) cp $path $name ;; esac
    number=$((number + 1))
done
printf '#!/bin/sh\nfor m in /modules/*; do /bin/busybox insmod $m; done\nexec /init\n' > initrd/distro-init
chmod 755 initrd/distro-init
(cd initrd && find . | busybox cpio -o -H newc > ../modules.cpio)
cp tree/boot/vmlinuz-$version vmlinuz
chmod 644 vmlinuz
rm -rf lists cache tree initrd *.deb
"#;

/// Finds or fetches it; returns the folder with `vmlinuz` and `modules.cpio`.
pub(super) fn ensure(cache: &Cache, rootfs: &Path) -> Result<PathBuf> {
    let key = cache::key([RECIPE, SCRIPT, &rootfs.to_string_lossy()]);
    cache.entry("distro-kernel", &key, 1, |aside| {
        let mut command = Sandbox::new(rootfs)
            .mount(aside, TREE_AT, true)
            .command(SCRIPT);
        progress::step("Debian's kernel", &mut command, &aside.join("apt.log"))
            .context("is the network there?")
    })
}
