// SPDX-License-Identifier: Apache-2.0 OR MIT

//! The functions of the NICs on the command line: slots, ports and sockets.

use std::path::Path;

use anyhow::{bail, Result};
use serde_json::json;

use crate::hostbox::config::{BoxConfig, Placement};

/// First slot of the root bus used for NIC functions; those below belong to
/// the chipset, the vIOMMU and the agent's channel.
const FIRST_SLOT: u8 = 4;

/// Slot 31 of a q35 is the chipset's.
const END_OF_SLOTS: u8 = 31;

/// How long QEMU waits for an answer of the NIC before it gives the device up.
/// The default of 5 s is too short for a busy machine of two cores.
const VFIO_USER_TIMEOUT_MS: u32 = 60_000;

/// Speed of the link of root ports. After a reset of a faster one Linux waits until the port says that its
/// link is active (`pci_bridge_wait_for_secondary_bus()`), which QEMU 11.1's does not for a vfio-user
/// function: each recovery from a fatal error would fail.
const SLOW_LINK: &str = "x-speed=5";

/// Where one function of a NIC is found in the box.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Location {
    /// Its PCI address.
    Address(String),
    /// The PCI address of the root port that it sits behind.
    Behind(String),
    /// The downstream port of this index of the switch behind this root port.
    Switch(String, usize),
}

/// A function as the command line plugs it in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plug {
    /// Its id in QEMU, e.g. for `device_del`.
    pub id: String,
    /// Where the box sees it.
    pub location: Location,
}

/// Socket of a function in the folder of its NIC's sockets.
fn socket_name(function: u16) -> String {
    if function == 0 {
        "mf.sock".into()
    } else {
        format!("df{}.sock", function - 1)
    }
}

/// Adds the functions of all NICs, whose sockets are in folders of `sockets`. Returns where each
/// NIC's functions are plugged in, the management function first.
pub(super) fn plug_nics(
    config: &BoxConfig,
    sockets: &Path,
    add: &mut impl FnMut(&str, String),
) -> Result<Vec<Vec<Plug>>> {
    let mut slot = FIRST_SLOT;
    let mut ports = 0u8;
    let mut nics = Vec::new();
    for (number, nic) in config.nics.iter().enumerate() {
        let mut plugs = Vec::new();
        let folder = sockets.join(format!("nic{number}"));
        for function in 0..=nic.functions {
            let id = match function {
                0 => format!("nic{number}mf"),
                f => format!("nic{number}df{}", f - 1),
            };
            let socket = folder.join(socket_name(function));
            let mut device = json!({
                "driver": "vfio-user-pci",
                "id": id,
                "x-msg-timeout": VFIO_USER_TIMEOUT_MS,
                "socket": {"type": "unix", "path": socket.to_string_lossy()},
            });
            let location = match nic.placement {
                Placement::RootBus => {
                    device["bus"] = json!("pcie.0");
                    device["addr"] = json!(format!("{slot:#x}"));
                    let address = format!("0000:00:{slot:02x}.0");
                    slot += 1;
                    Location::Address(address)
                }
                Placement::OneSlot => {
                    device["bus"] = json!("pcie.0");
                    device["addr"] = json!(format!("{slot:#x}.{function:#x}"));
                    device["multifunction"] = json!(function == 0);
                    Location::Address(format!("0000:00:{slot:02x}.{function}"))
                }
                Placement::RootPorts => {
                    // Eight root ports to a slot.
                    if ports % 8 == 0 && ports > 0 {
                        slot += 1;
                    }
                    let (port, sub) = (ports, ports % 8);
                    ports += 1;
                    let multi = if sub == 0 { ",multifunction=on" } else { "" };
                    add(
                        "-device",
                        format!(
                            "pcie-root-port,id=port{port},bus=pcie.0,chassis=1,slot={port},\
                             {SLOW_LINK},addr={slot:#x}.{sub}{multi}"
                        ),
                    );
                    device["bus"] = json!(format!("port{port}"));
                    Location::Behind(format!("0000:00:{slot:02x}.{sub}"))
                }
                Placement::Switch => {
                    if function == 0 {
                        add(
                            "-device",
                            format!(
                                "pcie-root-port,id=nic{number}root,bus=pcie.0,chassis=2,\
                                 slot={number},{SLOW_LINK},addr={slot:#x}"
                            ),
                        );
                        add(
                            "-device",
                            format!("x3130-upstream,id=nic{number}up,bus=nic{number}root"),
                        );
                    }
                    // In place of xio3130-downstream, which has no ACS.
                    add(
                        "-device",
                        format!(
                            "pcie-root-port,id=nic{number}down{function},bus=nic{number}up,\
                             chassis={},slot={function},{SLOW_LINK},addr={function:#x}",
                            3 + number
                        ),
                    );
                    device["bus"] = json!(format!("nic{number}down{function}"));
                    Location::Switch(format!("0000:00:{slot:02x}.0"), function.into())
                }
            };
            if slot > END_OF_SLOTS {
                bail!("more functions than slots of the root bus: place them behind root ports");
            }
            add("-device", device.to_string());
            plugs.push(Plug { id, location });
        }
        match nic.placement {
            Placement::RootBus => (),
            Placement::OneSlot if nic.functions > 7 => bail!("a slot has eight functions"),
            Placement::OneSlot | Placement::Switch => slot += 1,
            Placement::RootPorts => {
                slot += 1;
                ports = ports.next_multiple_of(8);
            }
        }
        nics.push(plugs);
    }
    Ok(nics)
}
