// SPDX-License-Identifier: Apache-2.0 OR MIT

//! Runs commands inside the root file system, as root or as an ordinary user
//! (by a user namespace). Nothing outside changes: all mounts live in a mount
//! namespace of their own that ends with the command.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{ensure, Result};

/// Folders of the root file system that exist to be mounted over: the kernel's entry with its
/// source, and that of a native kernel.
pub(super) const MOUNT_POINTS: &[&str] = &["kernel", "work"];

/// Where a work tree is mounted in a sandbox: every root file system has this folder.
pub(crate) const TREE_AT: &str = "/srv";

/// A root file system and what is mounted in it.
pub struct Sandbox {
    rootfs: PathBuf,
    mounts: Vec<Mount>,
}

struct Mount {
    source: PathBuf,
    target: &'static str,
    read_only: bool,
}

/// Arguments: root, the script, then (source, target, ro|rw) triples.
const ENTER: &str = r#"
set -e
PATH=$PATH:/usr/sbin:/sbin
root=$1 script=$2
shift 2
mount --rbind /dev "$root/dev"
mount --rbind /proc "$root/proc"
mount -t tmpfs tmpfs "$root/tmp"
while [ $# -gt 0 ]; do
    mount --bind "$1" "$root$2"
    [ "$3" = rw ] || mount -o remount,bind,ro "$root$2"
    shift 3
done
exec chroot "$root" /usr/bin/env -i HOME=/root LC_ALL=C.UTF-8 \
    PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    /bin/sh -ec "cd /; $script"
"#;

impl Sandbox {
    /// A sandbox with nothing mounted yet.
    pub fn new(rootfs: &Path) -> Self {
        Self {
            rootfs: rootfs.to_path_buf(),
            mounts: Vec::new(),
        }
    }

    /// Mounts a folder at `target`, writable or not.
    #[must_use]
    pub fn mount(mut self, source: &Path, target: &'static str, writable: bool) -> Self {
        self.mounts.push(Mount {
            source: source.to_path_buf(),
            target,
            read_only: !writable,
        });
        self
    }

    /// The command that runs a shell script inside.
    pub fn command(&self, script: &str) -> Command {
        let mut command = unshare();
        command.args(["--", "sh", "-c", ENTER, "sandbox"]);
        command.arg(&self.rootfs).arg(script);
        for mount in &self.mounts {
            command.arg(&mount.source).arg(mount.target);
            command.arg(if mount.read_only { "ro" } else { "rw" });
        }
        command
    }
}

/// `unshare` with what this user needs to be able to mount.
fn unshare() -> Command {
    let mut command = Command::new("unshare");
    command.arg("--mount");
    if !is_root() {
        command.arg("--map-root-user");
    }
    command
}

pub(super) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Fails with advice if sandboxes do not work here.
///
/// # Errors
///
/// Says what to change.
pub(super) fn check() -> Result<()> {
    let works = unshare()
        .args(["--", "mount", "-t", "tmpfs", "tmpfs", "/mnt"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|s| s.success());
    let advice = if is_root() {
        "this root user may not mount (a container without CAP_SYS_ADMIN?): allow it, or run as \
         an ordinary user where user namespaces are allowed"
    } else {
        "user namespaces are not allowed for this user: try \
         `sudo sysctl kernel.unprivileged_userns_clone=1` or, on Ubuntu, \
         `sudo sysctl kernel.apparmor_restrict_unprivileged_userns=0`, or run as root"
    };
    ensure!(works, "{advice}");
    Ok(())
}
