// SPDX-License-Identifier: Apache-2.0 OR MIT

//! Process 1: mounts, a reaper, and the end of the box.

use std::{
    ffi::CStr,
    fs, io,
    path::Path,
    process::{id, Command},
};

use rustix::{
    fs::sync,
    mount::{mount, mount_move, MountFlags},
    process::{chdir, chroot, wait, WaitOptions},
    system::{reboot, sethostname, RebootCommand},
};

/// Options of the 9p mounts. The read-only trees may be cached for good, the
/// results are written through so that the host sees them as they come.
const TREE: &CStr = c"trans=virtio,version=9p2000.L,msize=262144,cache=loose";
const SHARE: &CStr = c"trans=virtio,version=9p2000.L,msize=262144,cache=none";

/// Everything process 1 does; returns only on an error.
pub(crate) fn run() -> io::Result<()> {
    if id() != 1 {
        return Err(io::Error::other(
            "this is the init of the host box, not a program to run by hand",
        ));
    }
    let outcome = assemble_root().and_then(|()| serve_and_reap());
    if let Err(e) = &outcome {
        eprintln!("dlr-agent: {e}");
    }
    sync();
    reboot(RebootCommand::PowerOff)?;
    outcome
}

/// Names what was attempted in the error.
fn context<T>(result: Result<T, rustix::io::Errno>, what: &str) -> io::Result<T> {
    result.map_err(|e| io::Error::other(format!("{what}: {e}")))
}

fn mount_at(
    source: &str,
    target: &str,
    kind: &str,
    flags: MountFlags,
    options: Option<&CStr>,
) -> io::Result<()> {
    fs::create_dir_all(target)?;
    context(
        mount(source, target, kind, flags, options),
        &format!("mount {source} at {target}"),
    )
}

/// The root: the distribution's tree over 9p, read-only, below a tmpfs.
fn assemble_root() -> io::Result<()> {
    let none = MountFlags::empty();
    let plain = MountFlags::NOSUID | MountFlags::NODEV;
    let read_only = MountFlags::RDONLY;
    mount_at("root", "/lower", "9p", read_only, Some(TREE))?;
    mount_at("tmpfs", "/over", "tmpfs", none, Some(c"mode=0755"))?;
    fs::create_dir_all("/over/up")?;
    fs::create_dir_all("/over/work")?;
    mount_at(
        "root",
        "/new",
        "overlay",
        none,
        Some(c"lowerdir=/lower,upperdir=/over/up,workdir=/over/work"),
    )?;
    mount_at("dev", "/new/dev", "devtmpfs", none, None)?;
    mount_at("proc", "/new/proc", "proc", plain, None)?;
    mount_at("sysfs", "/new/sys", "sysfs", plain, None)?;
    mount_at("run", "/new/run", "tmpfs", plain, Some(c"mode=0755"))?;
    mount_at("tmp", "/new/tmp", "tmpfs", plain, Some(c"mode=1777"))?;
    mount_at(
        "devpts",
        "/new/dev/pts",
        "devpts",
        none,
        Some(c"ptmxmode=0666"),
    )?;
    mount_at("shm", "/new/dev/shm", "tmpfs", plain, Some(c"mode=1777"))?;
    mount_at("stage", "/new/dlr", "9p", read_only, Some(TREE))?;
    mount_at("results", "/new/results", "9p", none, Some(SHARE))?;
    context(chdir("/new"), "chdir /new")?;
    context(mount_move(".", "/"), "move the root")?;
    context(chroot("."), "chroot")?;
    context(chdir("/"), "chdir /")?;
    // What a kernel without the feature lacks is no reason not to boot.
    for (source, target, kind) in [
        ("debugfs", "/sys/kernel/debug", "debugfs"),
        ("tracefs", "/sys/kernel/tracing", "tracefs"),
        ("hugetlbfs", "/dev/hugepages", "hugetlbfs"),
        ("cgroup2", "/sys/fs/cgroup", "cgroup2"),
    ] {
        let present = Path::new(target).is_dir() || fs::create_dir_all(target).is_ok();
        if !present || mount(source, target, kind, plain, None).is_err() {
            eprintln!("dlr-agent: no {kind} in this kernel");
        }
    }
    context(sethostname(b"hostbox"), "set the host name")?;
    let _ = Command::new("/usr/sbin/ip")
        .args(["link", "set", "lo", "up"])
        .status();
    Ok(())
}

/// Starts the agent and reaps whatever dies until the agent does.
fn serve_and_reap() -> io::Result<()> {
    let agent = Command::new("/proc/self/exe")
        .arg("serve")
        .env(
            "PATH",
            "/dlr/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        )
        .env("HOME", "/root")
        .env("TERM", "linux")
        .spawn()?;
    loop {
        match wait(WaitOptions::empty()) {
            Ok(Some((pid, status))) if pid.as_raw_nonzero().get().unsigned_abs() == agent.id() => {
                return match status.exit_status() {
                    Some(0) => Ok(()),
                    _ => Err(io::Error::other("the agent died")),
                };
            }
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(e) => return Err(e.into()),
        }
    }
}
