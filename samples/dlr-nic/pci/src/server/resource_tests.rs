// SPDX-License-Identifier: Apache-2.0 OR MIT

//! What a client gives with file descriptors: interrupts and memory.

use std::fs::File;

use dlr_core::{DmaMemory, Interrupt};

use super::*;
use crate::testing::{count, event};

fn irq_set(flags: u32, start: u32, count: u32) -> Vec<u8> {
    let set = IrqSet {
        argsz: 20,
        flags,
        index: IRQ_MSIX,
        start,
        count,
    };
    set.as_bytes().to_vec()
}

#[test]
fn interrupts_come_in_one_message_and_go() {
    let (port, function) = (port(), Fake::default());
    let (events, fds): (Vec<_>, Vec<_>) = (0..3).map(|_| event()).unzip();
    let set = IRQ_SET_DATA_EVENTFD | IRQ_SET_ACTION_TRIGGER;
    ask(
        &port,
        &function,
        request(CMD_DEVICE_SET_IRQS, &irq_set(set, 1, 3), fds),
    )
    .unwrap();
    port.interrupt().trigger(2);
    let counts: Vec<_> = events.iter().map(count).collect();
    assert_eq!(counts, [0, 1, 0]);
    // No descriptors: disconnected, and pending from then on.
    ask(
        &port,
        &function,
        request(CMD_DEVICE_SET_IRQS, &irq_set(set, 1, 3), vec![]),
    )
    .unwrap();
    port.interrupt().trigger(2);
    let pba = ask(
        &port,
        &function,
        request(CMD_REGION_READ, &access(2, 0x1000, 8, &[]), vec![]),
    );
    assert_eq!(pba.unwrap()[16..], [4, 0, 0, 0, 0, 0, 0, 0]);
    // More vectors than there are, and fewer descriptors than vectors.
    let bad = request(CMD_DEVICE_SET_IRQS, &irq_set(set, 3, 2), vec![]);
    assert_eq!(ask(&port, &function, bad), Err(Errno::INVAL));
    let fds = vec![event().1];
    let bad = request(CMD_DEVICE_SET_IRQS, &irq_set(set, 0, 2), fds);
    assert_eq!(ask(&port, &function, bad), Err(Errno::INVAL));
    let all_off = irq_set(IRQ_SET_DATA_NONE | IRQ_SET_ACTION_TRIGGER, 0, 0);
    ask(
        &port,
        &function,
        request(CMD_DEVICE_SET_IRQS, &all_off, vec![]),
    )
    .unwrap();
}

#[test]
fn maps_and_unmaps_all() {
    let (port, function) = (port(), Fake::default());
    let flags = rustix::fs::MemfdFlags::CLOEXEC | rustix::fs::MemfdFlags::ALLOW_SEALING;
    let file = File::from(rustix::fs::memfd_create("test", flags).unwrap());
    file.set_len(8192).unwrap();
    rustix::fs::fcntl_add_seals(&file, rustix::fs::SealFlags::SHRINK).unwrap();
    let map = |flags, size| {
        let map = DmaMap {
            argsz: 32,
            flags,
            offset: 4096,
            address: 0x10000,
            size,
        };
        let fds = vec![file.try_clone().unwrap().into()];
        ask(&port, &function, request(CMD_DMA_MAP, map.as_bytes(), fds))
    };
    map(MAP_READ | MAP_WRITE, 4096).unwrap();
    port.memory().write(0x10000, &[5]).unwrap();
    assert_eq!(map(MAP_READ, 8192), Err(Errno::INVAL));
    assert_eq!(map(0, 4096), Err(Errno::INVAL));
    let unmap = |flags, address, size| {
        let unmap = DmaUnmap {
            argsz: 24,
            flags,
            address,
            size,
        };
        ask(
            &port,
            &function,
            request(CMD_DMA_UNMAP, unmap.as_bytes(), vec![]),
        )
    };
    unmap(0, 0xfef0_0000, 0xffff_ffff_0110_0000).unwrap();
    port.memory().write(0x10000, &[5]).unwrap();
    assert_eq!(unmap(1, 0, 4096), Err(Errno::OPNOTSUPP));
    assert_eq!(unmap(UNMAP_ALL, 0, 0).unwrap().len(), 24);
    port.memory().write(0x10000, &[5]).unwrap_err();
}
