// SPDX-License-Identifier: Apache-2.0 OR MIT

//! The root file system: Debian's packages, nothing else.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{anyhow, bail, ensure, Context, Result};

use super::{
    cache::{self, Cache},
    sandbox::{self, is_root, MOUNT_POINTS},
};
use crate::progress;

/// Raised when the recipe below changes in a way that its inputs do not show.
const RECIPE: &str = "1";

const SUITE: &str = "trixie";
const BACKPORTS: &str = "trixie-backports";

/// Source package of the kernel, from backports.
pub(super) const LINUX_SOURCE: &str = "linux-source-7.3";

/// What kernel, module and bindings are built with, and what runs in the box.
const PACKAGES: &[&str] = &[
    // Building the kernel and modules.
    "gcc",
    "make",
    "libc6-dev",
    "bc",
    "bison",
    "flex",
    "libelf-dev",
    "libssl-dev",
    "kmod",
    "xz-utils",
    "python3-minimal",
    "rustc",
    "rust-src",
    "rustfmt",
    "rust-clippy",
    "bindgen",
    // The kernel with KASAN: with Rust it takes one built by LLVM.
    "clang",
    "lld",
    "llvm",
    // In the box.
    "mount",
    "iproute2",
    "pciutils",
    "procps",
    "busybox-static",
    "strace",
];

/// Packages that are taken from backports.
const FROM_BACKPORTS: &[&str] = &[LINUX_SOURCE, "qemu-system-x86", "seabios"];

/// Versions of the packages that decide what is built, a line each: `package version`.
const PINNED: &str = include_str!("../../configs/packages.pinned");

/// Debian's words for "the new QEMU and all that belongs to it".
const PREFERENCES: &str = "Package: src:qemu src:seabios src:ipxe src:linux\n\
                           Pin: release n=trixie-backports\nPin-Priority: 600\n";

/// Documentation is of no use in there.
const EXCLUDED: &[&str] = &[
    "/usr/share/doc/*",
    "/usr/share/man/*",
    "/usr/share/locale/*",
];

/// Versions of all packages, one a line, inside the entry.
const MANIFEST: &str = "manifest";

/// The built tree and the versions of what it holds.
pub(super) struct Rootfs {
    /// The tree.
    pub(super) tree: PathBuf,
    /// Lines of `package version`.
    pub(super) manifest: String,
}

/// Finds or builds the root file system.
pub(super) fn ensure_rootfs(cache: &Cache) -> Result<Rootfs> {
    let pins: Vec<String> = pins(PINNED).collect();
    let pins: Vec<&str> = pins.iter().map(String::as_str).collect();
    let own = [RECIPE, PREFERENCES];
    let inputs = [PACKAGES, FROM_BACKPORTS, EXCLUDED, &own, &pins].concat();
    let entry = cache.entry("rootfs", &cache::key(inputs), 6, build)?;
    Ok(Rootfs {
        tree: entry.join("root"),
        manifest: fs::read_to_string(entry.join(MANIFEST))?,
    })
}

/// Lines of `package version` as apt has them.
fn pins(list: &str) -> impl Iterator<Item = String> + '_ {
    list.lines()
        .map(str::trim)
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.split_once(' '))
        .map(|(package, version)| format!("{package}={version}"))
}

/// All packages, with the versions of the pinned ones.
fn wanted() -> Vec<String> {
    let mut wanted: Vec<String> = pins(PINNED).collect();
    let is_pinned = |wanted: &[String], name: &str| {
        wanted
            .iter()
            .any(|w| w.split_once('=').is_some_and(|(n, _)| n == name))
    };
    for name in [PACKAGES, FROM_BACKPORTS].concat() {
        if !is_pinned(&wanted, name) {
            wanted.push(name.into());
        }
    }
    wanted
}

/// Packages with their versions that apt could not find.
fn gone(log: &str) -> Vec<String> {
    let quoted = |line: &str| {
        let (version, rest) = line.split_once("Version '")?.1.split_once('\'')?;
        let package = rest.split_once('\'')?.1.split_once('\'')?.0;
        line.ends_with("was not found")
            .then(|| format!("{package} {version}"))
    };
    log.lines().filter_map(|line| quoted(line.trim())).collect()
}

fn build(aside: &Path) -> Result<()> {
    ensure_mmdebstrap()?;
    sandbox::check()?;
    let mirror = mirror()?;
    let sources = aside.join("sources.list");
    fs::write(
        &sources,
        format!("deb {mirror} {SUITE} main\ndeb {mirror} {BACKPORTS} main\n"),
    )?;
    let root = aside.join("root");
    // Root gets the tree at once. Any other user gets an archive and unpacks
    // it, so that all files belong to this user and no subordinate ids have to
    // be mapped whenever the tree is used or removed.
    let (format, target) = if is_root() {
        ("directory", root.clone())
    } else {
        ("tar", aside.join("root.tar"))
    };
    let mut command = Command::new("mmdebstrap");
    command
        .arg("--variant=apt")
        .arg(format!("--format={format}"))
        .arg("--keyring=/usr/share/keyrings/debian-archive-keyring.gpg")
        .arg(format!(
            "--setup-hook=mkdir -p \"$1/etc/apt/preferences.d\" && printf '{}' > \
             \"$1/etc/apt/preferences.d/backports\"",
            PREFERENCES.replace('\n', "\\n")
        ))
        .arg(format!("--include={}", wanted().join(",")))
        .args(
            EXCLUDED
                .iter()
                .map(|path| format!("--dpkgopt=path-exclude={path}")),
        )
        .arg(format!(
            "--customize-hook=cd \"$1\" && mkdir -p {}",
            MOUNT_POINTS.join(" ")
        ))
        .arg(format!(
            "--customize-hook=chroot \"$1\" dpkg-query -W -f '${{Package}} ${{Version}}\\n' > \
             \"$1/{MANIFEST}\""
        ))
        .arg(SUITE)
        .arg(&target)
        .arg(&sources);
    let log = aside.join("mmdebstrap.log");
    progress::step("root file system", &mut command, &log).map_err(|e| {
        let gone = gone(&fs::read_to_string(&log).unwrap_or_default());
        if gone.is_empty() {
            e.context("is the network there? The mirror is the one that apt is configured with")
        } else {
            anyhow!(
                "the archive {mirror} no longer has {}: put the versions that it has into \
                 tools/testing/configs/packages.pinned, or set DLR_MIRROR to the URL of an archive \
                 that has these (snapshot.debian.org)",
                gone.join(", ")
            )
        }
    })?;
    if !is_root() {
        unpack(&target, &root, &aside.join("tar.log"))?;
        fs::remove_file(&target)?;
    }
    fs::rename(root.join(MANIFEST), aside.join(MANIFEST))?;
    Ok(())
}

fn unpack(archive: &Path, root: &Path, log: &Path) -> Result<()> {
    fs::create_dir(root)?;
    let mut command = Command::new("tar");
    command
        .arg("--extract")
        .arg("--file")
        .arg(archive)
        .arg("--directory")
        .arg(root)
        .args([
            "--no-same-owner",
            "--exclude=./dev/*",
            "--delay-directory-restore",
        ]);
    progress::step("unpack the root file system", &mut command, log)
}

/// The Debian mirror of this machine's apt, so that no host stands in the tree.
fn mirror() -> Result<String> {
    if let Ok(mirror) = env::var("DLR_MIRROR") {
        return Ok(mirror);
    }
    let output = Command::new("apt-get")
        .args(["indextargets", "--format", "$(ORIGIN) $(REPO_URI)"])
        .output()
        .context("cannot run apt-get: this needs a Debian-like machine")?;
    pick_mirror(&String::from_utf8_lossy(&output.stdout)).context(
        "apt knows no Debian mirror: run `apt-get update`, or set DLR_MIRROR to the URL of one",
    )
}

/// First Debian archive that is not the one for security updates.
fn pick_mirror(targets: &str) -> Option<String> {
    targets
        .lines()
        .filter_map(|line| line.split_once(' '))
        .find(|(origin, uri)| *origin == "Debian" && !uri.contains("security"))
        .map(|(_, uri)| uri.to_string())
}

fn has(program: &str) -> bool {
    env::var_os("PATH")
        .is_some_and(|path| env::split_paths(&path).any(|p| p.join(program).exists()))
}

/// Installs mmdebstrap as root, or says how to.
fn ensure_mmdebstrap() -> Result<()> {
    let keyring = Path::new("/usr/share/keyrings/debian-archive-keyring.gpg").exists();
    let mut missing = Vec::new();
    if !has("mmdebstrap") {
        missing.push("mmdebstrap");
    }
    if !keyring {
        missing.push("debian-archive-keyring");
    }
    if !is_root() && !has("newuidmap") {
        missing.push("uidmap");
    }
    if missing.is_empty() {
        return check_subordinate_ids();
    }
    let list = missing.join(" ");
    if !is_root() {
        bail!("missing: {list}. Install it: sudo apt-get install {list}");
    }
    let log = tempfile::NamedTempFile::new()?;
    let script = format!(
        "apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y \
         --no-install-recommends {list}"
    );
    let mut command = Command::new("sh");
    command.args(["-c", &script]);
    progress::step(&format!("install {list}"), &mut command, log.path())
}

/// mmdebstrap's unshare mode needs a range of ids for packages' own users.
fn check_subordinate_ids() -> Result<()> {
    if is_root() {
        return Ok(());
    }
    let user = Command::new("id").arg("-un").output()?;
    let user = String::from_utf8_lossy(&user.stdout).trim().to_string();
    let ids = fs::read_to_string("/etc/subuid").unwrap_or_default();
    ensure!(
        ids.lines()
            .any(|line| line.starts_with(&format!("{user}:"))),
        "{user} has no subordinate user ids: \
         sudo usermod --add-subuids 100000-165535 --add-subgids 100000-165535 {user}"
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pinned_packages_are_wanted_once_and_in_their_version() {
        let wanted = wanted();
        let of = |name: &str| -> Vec<&String> {
            let fits = |w: &&String| w.split('=').next() == Some(name);
            wanted.iter().filter(fits).collect()
        };
        for name in [PACKAGES, FROM_BACKPORTS].concat() {
            assert_eq!(of(name).len(), 1, "{name}");
        }
        for name in [
            LINUX_SOURCE,
            "qemu-system-x86",
            "rustc",
            "gcc-14",
            "clang-19",
        ] {
            assert!(of(name)[0].contains('='), "{name}");
        }
    }

    #[test]
    fn a_version_that_the_archive_no_longer_has_is_named() {
        let log = "Get:1 http://x trixie\nE: Version '1:2-3' for 'qemu-system-x86' was not found\n\
                   E: Version '7.3.4-1' for 'linux-source-7.3' was not found\r\nE: apt-get failed\n";
        assert_eq!(
            gone(log),
            ["qemu-system-x86 1:2-3", "linux-source-7.3 7.3.4-1"]
        );
        assert!(gone("E: Unable to locate package x").is_empty());
    }

    #[test]
    fn the_security_archive_is_not_a_mirror() {
        let targets = "Debian http://a/x-security/\nUbuntu http://u/\nDebian http://b/x/\n";
        assert_eq!(pick_mirror(targets).as_deref(), Some("http://b/x/"));
        assert_eq!(pick_mirror("Ubuntu http://u/\n"), None);
    }
}
