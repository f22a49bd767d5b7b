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
    add("-cpu", "max".into());
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
            // Without an option ROM: nobody boots from it.
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
mod tests {
    use super::*;
    use crate::hostbox::config::{NicConfig, Placement};

    fn line(config: &BoxConfig) -> Result<(String, Vec<Vec<Plug>>)> {
        let paths = Paths {
            rootfs: "/r".into(),
            kernel: "/k".into(),
            initramfs: "/i".into(),
            stage: "/a,b".into(),
            results: "/o".into(),
            sockets: "/s".into(),
        };
        let (words, plugs) = command_line(config, &paths)?;
        let words: Vec<_> = words
            .iter()
            .map(|w| w.to_string_lossy().into_owned())
            .collect();
        Ok((words.join(" "), plugs))
    }

    #[test]
    fn every_function_has_a_slot_and_a_socket() {
        let (text, plugs) = line(&BoxConfig::new("x").functions(2).functions(1)).unwrap();
        assert!(text.contains("/s/nic0/df1.sock"));
        assert!(text.contains("/s/nic1/mf.sock"));
        assert_eq!(
            plugs[0][2].location,
            Location::Address("0000:00:06.0".into())
        );
        assert_eq!(
            plugs[1][0].location,
            Location::Address("0000:00:07.0".into())
        );
        assert_eq!(plugs[1][1].id, "nic1df0");
    }

    #[test]
    fn sixty_four_functions_fit_behind_root_ports_only() {
        let nic = NicConfig::new(64);
        assert!(line(&BoxConfig::new("x").nic(nic.clone())).is_err());
        let nic = nic.placed(Placement::RootPorts);
        let (text, plugs) = line(&BoxConfig::new("x").nic(nic)).unwrap();
        assert_eq!(text.matches("pcie-root-port").count(), 65);
        assert_eq!(
            plugs[0][8].location,
            Location::Behind("0000:00:05.0".into())
        );
        assert_eq!(text.matches("multifunction=on").count(), 1 + 9);
    }

    #[test]
    fn functions_of_a_switch_have_a_port_each() {
        let nic = NicConfig::new(2).placed(Placement::Switch);
        let (text, plugs) = line(&BoxConfig::new("x").nic(nic).functions(1)).unwrap();
        assert_eq!(text.matches("x3130-upstream").count(), 1);
        assert_eq!(text.matches(",bus=nic0up,").count(), 3);
        let root = "0000:00:04.0".to_string();
        assert_eq!(plugs[0][2].location, Location::Switch(root, 2));
        assert_eq!(
            plugs[1][0].location,
            Location::Address("0000:00:05.0".into())
        );
    }

    #[test]
    fn file_systems_of_a_box_that_sleeps_keep_their_state() {
        let text = line(&BoxConfig::new("x").sleeps()).unwrap().0;
        assert_eq!(text.matches("x-pcie-pm-no-soft-reset=on").count(), 4);
        let text = line(&BoxConfig::new("x")).unwrap().0;
        assert!(!text.contains("no-soft-reset"));
    }

    #[test]
    fn instructions_are_counted_on_one_processor() {
        let text = line(&BoxConfig::new("x").counted()).unwrap().0;
        assert!(text.contains("-accel tcg,thread=single -icount shift=0"));
        assert!(text.contains("-smp 1 "));
        assert!(!line(&BoxConfig::new("x")).unwrap().0.contains("-icount"));
    }

    #[test]
    fn devices_of_qemu_have_a_root_port_each() {
        let config = BoxConfig::new("x").device("edu").device("bochs-display");
        let text = line(&config).unwrap().0;
        assert!(text.contains("addr=0x1e.0,multifunction=on -device edu,bus=own0"));
        assert!(text.contains("addr=0x1e.1,multifunction=on -device bochs-display,bus=own1"));
        assert_eq!(port_of_device(1), "0000:00:1e.1");
        let many = (0..9).fold(BoxConfig::new("x"), |config, _| config.device("edu"));
        assert!(line(&many).is_err());
    }

    #[test]
    fn a_cable_has_two_ends() {
        let ends = [0, 1].map(|end| {
            let socket = "/c,d".into();
            line(&BoxConfig::new("x").cable(Cable { socket, end }))
                .unwrap()
                .0
        });
        assert!(ends[0].contains("server=on,addr.type=unix,addr.path=/c,,d"));
        assert!(ends[1].contains("server=off,reconnect-ms=200"));
        assert!(ends[0].contains("mac=02:d1:72:77:00:00"));
        assert!(!line(&BoxConfig::new("x")).unwrap().0.contains("-netdev"));
    }

    #[test]
    fn commas_in_paths_are_escaped() {
        assert!(line(&BoxConfig::new("x"))
            .unwrap()
            .0
            .contains("path=/a,,b,"));
    }
}
