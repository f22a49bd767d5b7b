// SPDX-License-Identifier: Apache-2.0 OR MIT

//! Interfaces and socket counters of the guest, by way of sysfs, procfs and busybox.

use std::{
    fs,
    path::Path,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use anyhow::{bail, Context, Result};

use crate::protocol::{Address, Nic};

/// The interfaces that sit on a device, in the order of their device paths.
///
/// # Errors
///
/// No sysfs.
pub fn nics() -> Result<Vec<Nic>> {
    let mut nics = vec![];
    for entry in fs::read_dir("/sys/class/net").context("/sys/class/net")? {
        let path = entry?.path();
        let Ok(device) = fs::canonicalize(path.join("device")) else {
            continue;
        };
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let driver = fs::canonicalize(path.join("device/driver")).unwrap_or_default();
        nics.push(Nic {
            name,
            mac: fs::read_to_string(path.join("address"))
                .unwrap_or_default()
                .trim()
                .to_owned(),
            driver: driver
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned(),
            path: device.to_string_lossy().into_owned(),
        });
    }
    nics.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(nics)
}

/// Waits for as many interfaces as there are `addresses`, and sets them up.
///
/// # Errors
///
/// They do not come, or busybox fails.
pub fn setup(addresses: &[Address], timeout: Duration) -> Result<Vec<Nic>> {
    let end = Instant::now() + timeout;
    let nics = loop {
        let nics = nics()?;
        if nics.len() >= addresses.len() {
            break nics;
        }
        if Instant::now() > end {
            bail!(
                "{} interfaces instead of {}: {nics:?}",
                nics.len(),
                addresses.len()
            );
        }
        thread::sleep(Duration::from_millis(20));
    };
    for (nic, address) in nics.iter().zip(addresses) {
        let cidr = format!("{}/{}", address.address, address.prefix);
        busybox(&["ip", "addr", "replace", &cidr, "dev", &nic.name])?;
        busybox(&["ip", "link", "set", &nic.name, "up"])?;
    }
    Ok(nics)
}

/// Takes an interface away from its driver and gives it back.
///
/// # Errors
///
/// There is none of this number, or its driver does not let it go.
pub fn rebind(number: usize) -> Result<()> {
    let nics = nics()?;
    let nic = nics
        .get(number)
        .with_context(|| format!("no interface {number}: {nics:?}"))?;
    let device = Path::new(&nic.path);
    let name = device.file_name().context("no device")?;
    let driver = fs::canonicalize(device.join("driver")).context("no driver")?;
    for what in ["unbind", "bind"] {
        let path = driver.join(what);
        fs::write(&path, name.as_encoded_bytes())
            .with_context(|| format!("{} of {}", path.display(), nic.path))?;
    }
    Ok(())
}

fn busybox(args: &[&str]) -> Result<()> {
    let output = Command::new("/bin/busybox")
        .args(args)
        .output()
        .context("busybox")?;
    if !output.status.success() {
        bail!(
            "busybox {}: {}",
            args.join(" "),
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(())
}

/// Receive queue of a UDP socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UdpQueue {
    /// Receive memory in use.
    pub bytes: u64,
    /// Datagrams that found no room.
    pub drops: u64,
}

/// Receive queues of all UDP sockets, by port.
///
/// # Errors
///
/// No procfs.
pub fn udp_queues() -> Result<Vec<(u16, UdpQueue)>> {
    let path = Path::new("/proc/net/udp");
    let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
    Ok(text.lines().skip(1).filter_map(udp_queue).collect())
}

/// One line: `sl local:port remote:port st tx:rx …; drops` is the last column.
fn udp_queue(line: &str) -> Option<(u16, UdpQueue)> {
    let columns: Vec<&str> = line.split_whitespace().collect();
    let port = u16::from_str_radix(columns.get(1)?.split_once(':')?.1, 16).ok()?;
    let bytes = u64::from_str_radix(columns.get(4)?.split_once(':')?.1, 16).ok()?;
    let drops = columns.last()?.parse().ok()?;
    Some((port, UdpQueue { bytes, drops }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_proc_net_udp() {
        let line = "  285: 00000000:1388 00000000:0000 07 00000000:000A2B00 00:00000000 00000000     0        0 1234 2 ffff 17";
        assert_eq!(
            udp_queue(line),
            Some((
                5000,
                UdpQueue {
                    bytes: 0xa2b00,
                    drops: 17
                }
            ))
        );
        assert_eq!(udp_queue("nonsense"), None);
    }
}
