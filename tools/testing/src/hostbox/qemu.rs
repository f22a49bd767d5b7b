// SPDX-License-Identifier: Apache-2.0 OR MIT

//! The command line of the host box's QEMU. Pure: paths in, words out.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
};

use anyhow::{bail, Result};

use self::plug::plug_nics;
pub use self::plug::{Location, Plug};
use super::config::{BoxConfig, Cable};

mod plug;

/// Slot of the root ports of [`BoxConfig::devices`], which are its functions.
const SLOT_OF_DEVICES: u8 = 30;

/// Paths that the command line names.
pub(super) struct Paths {
    /// The root file system.
    pub rootfs: PathBuf,
    /// The kernel image.
    pub kernel: PathBuf,
    /// The initramfs with the agent.
    pub initramfs: PathBuf,
    /// Folder shown as `/dlr`.
    pub stage: PathBuf,
    /// Folder shown as `/results`, which also takes the logs.
    pub results: PathBuf,
    /// Folder for sockets; its path must be short.
    pub sockets: PathBuf,
}

/// The program and first arguments that run the root file system's QEMU
/// through its own loader, so that it does not matter what this machine has.
pub fn emulator(rootfs: &Path) -> Vec<OsString> {
    let libraries = rootfs.join("usr/lib/x86_64-linux-gnu");
    let mut words: Vec<OsString> = vec![
        rootfs.join("usr/lib64/ld-linux-x86-64.so.2").into(),
        "--library-path".into(),
        libraries.into(),
        rootfs.join("usr/bin/qemu-system-x86_64").into(),
    ];
    for data in ["usr/share/qemu", "usr/share/seabios"] {
        words.push("-L".into());
        words.push(rootfs.join(data).into());
    }
    words
}

/// Escapes a path inside an option of `key=value` words: QEMU doubles commas.
fn quoted(path: &Path) -> String {
    path.to_string_lossy().replace(',', ",,")
}

/// The words, and each NIC's functions.
type CommandLine = (Vec<OsString>, Vec<Vec<Plug>>);

/// All words of the command line, and where each NIC's functions are plugged
/// in, the management function first.
pub(super) fn command_line(config: &BoxConfig, paths: &Paths) -> Result<CommandLine> {
    let mut words = emulator(&paths.rootfs);
    let mut add = |option: &str, value: String| {
        words.push(option.into());
        words.push(value.into());
    };
    add("-name", config.name.clone());
    add(
        "-machine",
        "q35,kernel-irqchip=off,memory-backend=ram".into(),
    );
    if config.counted {
        // QEMU counts instructions on a single thread only.
        add("-accel", "tcg,thread=single".into());
        add("-icount", "shift=0".into());
    } else {
        add("-accel", "tcg,thread=multi".into());
    }
    add("-cpu", config.cpu.clone());
    add("-smp", config.cpus.to_string());
    add("-m", format!("{}M", config.memory_mib));
    add(
        "-object",
        format!(
            "memory-backend-memfd,id=ram,size={}M,share=on",
            config.memory_mib
        ),
    );
    add("-display", "none".into());
    add(
        "-serial",
        format!("file:{}", quoted(&paths.results.join("console.log"))),
    );
    add("-kernel", plain(&paths.kernel));
    add("-initrd", plain(&paths.initramfs));
    add("-append", kernel_command_line(config));
    add(
        "-qmp",
        format!(
            "unix:{},server=on,wait=off",
            quoted(&paths.sockets.join("qmp"))
        ),
    );
    add("-device", "intel-iommu,caching-mode=on,intremap=on".into());
    for (tag, path, options) in [
        ("root", &paths.rootfs, ",readonly=on,multidevs=remap"),
        ("stage", &paths.stage, ",readonly=on"),
        ("results", &paths.results, ""),
    ] {
        add(
            "-fsdev",
            format!(
                "local,id={tag},path={},security_model=none{options}",
                quoted(path)
            ),
        );
        let place = match tag {
            "root" => "0,multifunction=on",
            "stage" => "1",
            _ => "2",
        };
        let place = if config.sleeps {
            // A virtio device on the root bus has no power management capability, and Linux resets it
            // over a sleep; its 9p cannot do with that.
            if tag == "root" {
                add(
                    "-device",
                    "pcie-root-port,id=files,bus=pcie.0,chassis=9,slot=0,addr=0x2.0".into(),
                );
            }
            format!("bus=files,x-pcie-pm-no-soft-reset=on,addr=0x0.{place}")
        } else {
            format!("bus=pcie.0,addr=0x2.{place}")
        };
        add(
            "-device",
            format!("virtio-9p-pci,fsdev={tag},mount_tag={tag},{place}"),
        );
    }
    if config.sleeps {
        add(
            "-device",
            "pcie-root-port,id=channel,bus=pcie.0,chassis=8,slot=0,addr=0x3.0".into(),
        );
        // What the agent has not sent yet would be lost, see above.
        add(
            "-device",
            "virtio-serial-pci,id=serial,bus=channel,x-pcie-pm-no-soft-reset=on".into(),
        );
    } else {
        add(
            "-device",
            "virtio-serial-pci,id=serial,bus=pcie.0,addr=0x3".into(),
        );
    }
    add(
        "-chardev",
        format!(
            "socket,id=agent,path={}",
            quoted(&paths.sockets.join("agent"))
        ),
    );
    add(
        "-device",
        format!(
            "virtserialport,bus=serial.0,chardev=agent,name={}",
            dlr_agent::PORT_NAME
        ),
    );
    if config.console {
        add("-chardev", "stdio,id=terminal,signal=off".into());
        add(
            "-device",
            "virtconsole,bus=serial.0,chardev=terminal".into(),
        );
    }
    if let Some(cable) = &config.cable {
        add("-netdev", netdev(cable));
        add(
            "-device",
            // Without an option ROM, because the box does not boot from it.
            format!(
                "virtio-net-pci,netdev=cable,mac={},romfile=,bus=pcie.0,addr=0x2.3",
                cable.mac()
            ),
        );
    }
    let plugs = plug_nics(config, &paths.sockets, &mut add)?;
    if config.devices.len() > 8 {
        bail!("a slot has eight functions");
    }
    for (n, device) in config.devices.iter().enumerate() {
        add(
            "-device",
            format!(
                "pcie-root-port,id=own{n},bus=pcie.0,chassis=6,slot={n},addr={SLOT_OF_DEVICES:#x}.{n},\
                 multifunction=on"
            ),
        );
        add("-device", format!("{device},bus=own{n}"));
    }
    words.extend(["-nodefaults", "-no-reboot", "-no-user-config"].map(OsString::from));
    Ok((words, plugs))
}

/// PCI address of the root port of one of [`BoxConfig::devices`].
pub(super) fn port_of_device(number: usize) -> String {
    format!("0000:00:{SLOT_OF_DEVICES:02x}.{number}")
}

fn netdev(cable: &Cable) -> String {
    let role = if cable.end == 0 {
        "server=on"
    } else {
        "server=off,reconnect-ms=200"
    };
    format!(
        "stream,id=cable,{role},addr.type=unix,addr.path={}",
        quoted(&cable.socket)
    )
}

/// A path that is a word of its own needs no escape.
fn plain(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

fn kernel_command_line(config: &BoxConfig) -> String {
    let mut words = vec![
        "console=ttyS0".to_string(),
        "ignore_loglevel".into(),
        // On a busy machine the emulated timer seems not to work at boot; Linux would panic.
        "no_timer_check".into(),
        "panic=-1".into(),
        "intel_iommu=on".into(),
    ];
    if config.huge_pages > 0 {
        words.push(format!("hugepagesz=2M hugepages={}", config.huge_pages));
    }
    words.extend(config.kernel_args.iter().cloned());
    words.join(" ")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
