// SPDX-License-Identifier: Apache-2.0 OR MIT

//! The first process of the guest.

use std::{
    fs::{self, File},
    path::PathBuf,
    thread,
    time::{Duration, Instant},
};

use anyhow::{bail, Context, Result};
use rustix::{
    mount::{mount, MountFlags},
    system::{reboot, RebootCommand},
    termios::{tcgetattr, tcsetattr, OptionalActions},
};

use crate::{
    protocol::{LINE, PORT_NAME, READY},
    service::Service,
};

/// How long the virtio-serial port may take to come.
const PORT_DEADLINE: Duration = Duration::from_secs(60);

/// Mounts, tunes, serves, turns the machine off. Returns only if that fails.
pub fn run() {
    if let Err(e) = boot() {
        eprintln!("dlr-guest: {e:#}");
    }
    rustix::fs::sync();
    if let Err(e) = reboot(RebootCommand::PowerOff) {
        eprintln!("dlr-guest: cannot turn the machine off: {e}");
    }
}

fn boot() -> Result<()> {
    for (kind, to) in [("proc", "/proc"), ("sysfs", "/sys"), ("devtmpfs", "/dev")] {
        fs::create_dir_all(to)?;
        // The kernel may have mounted devtmpfs already.
        if let Err(e) = mount(kind, to, kind, MountFlags::empty(), None) {
            if e != rustix::io::Errno::BUSY {
                return Err(e).with_context(|| to.to_owned());
            }
        }
    }
    tune();
    let path = channel()?;
    let channel = File::options().read(true).write(true).open(&path);
    let channel = channel.with_context(|| path.display().to_string())?;
    if let Ok(mut settings) = tcgetattr(&channel) {
        // A serial line instead of a virtio port: bytes as they are.
        settings.make_raw();
        tcsetattr(&channel, OptionalActions::Now, &settings)?;
    }
    println!("{READY} on {}", path.display());
    Service::default().run(&channel)
}

/// Lets the backlog grow: socket buffers of hundreds of megabytes.
fn tune() {
    for (name, value) in [
        ("net/core/rmem_max", "1073741824"),
        ("net/core/netdev_max_backlog", "10000"),
        ("net/ipv4/udp_mem", "200000 300000 400000"),
        ("kernel/printk", "7 4 1 7"),
    ] {
        if let Err(e) = fs::write(format!("/proc/sys/{name}"), value) {
            eprintln!("dlr-guest: {name}: {e}");
        }
    }
    let loopback = std::process::Command::new("/bin/busybox")
        .args(["ip", "link", "set", "lo", "up"])
        .status();
    if let Err(e) = loopback {
        eprintln!("dlr-guest: busybox: {e}");
    }
}

/// The serial line that the command line names, else the virtio-serial port with our name, once it
/// is there.
fn channel() -> Result<PathBuf> {
    if let Some(line) = std::env::var_os(LINE) {
        return Ok(line.into());
    }
    let end = Instant::now() + PORT_DEADLINE;
    while Instant::now() < end {
        let ports = fs::read_dir("/sys/class/virtio-ports")
            .into_iter()
            .flatten()
            .flatten();
        for port in ports {
            let name = fs::read_to_string(port.path().join("name")).unwrap_or_default();
            if name.trim() == PORT_NAME {
                return Ok(PathBuf::from("/dev").join(port.file_name()));
            }
        }
        thread::sleep(Duration::from_millis(20));
    }
    bail!("no virtio-serial port `{PORT_NAME}`");
}
