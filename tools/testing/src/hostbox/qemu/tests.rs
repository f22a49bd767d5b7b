// SPDX-License-Identifier: Apache-2.0 OR MIT

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
