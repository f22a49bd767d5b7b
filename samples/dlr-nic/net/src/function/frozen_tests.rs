// SPDX-License-Identifier: Apache-2.0 OR MIT

//! What a driver sees stands still while the function is stopped, and changes tell of themselves.

use dlr_core::{DataFunction, FnState, LoadError};
use dlr_pci::{PciFunction, ResetKind};

use super::tests::*;
use crate::{regs::*, testing::*};

fn generation(rig: &Rig) -> u8 {
    rig.get::<1>(COMMON + 0x15)[0]
}

fn link(rig: &Rig) -> u16 {
    u16::from_le_bytes(rig.get(DEVICE + 6))
}

fn interrupts(rig: &Rig) -> Vec<u16> {
    std::mem::take(&mut *rig.seen.interrupts.lock().unwrap())
}

#[test]
fn a_cable_that_is_pulled_while_stopped_shows_afterwards() {
    let rig = Rig::started(PLAIN);
    rig.net.suspend(FnState::Stopped);
    let (state, before) = (rig.net.save(), generation(&rig));
    rig.net.set_link(false);
    assert!(!rig.net.cable());
    assert_eq!(link(&rig), NET_S_LINK_UP, "the frozen configuration moved");
    assert_eq!(generation(&rig), before);
    assert_eq!(rig.net.save(), state);
    rig.net.resume(FnState::RunningP2p);
    assert_eq!(link(&rig), 0);
    assert_eq!(generation(&rig), before.wrapping_add(1));
    assert!(interrupts(&rig).is_empty());
    rig.net.resume(FnState::Running);
    assert_eq!(interrupts(&rig)[0], 0, "the configuration interrupt");
    // Out and in again while stopped: nothing to tell.
    rig.net.suspend(FnState::Stopped);
    rig.net.set_link(true);
    rig.net.set_link(false);
    rig.net.resume(FnState::Running);
    assert!(!interrupts(&rig).contains(&0));
}

#[test]
fn every_change_of_the_configuration_changes_the_generation() {
    let rig = Rig::new();
    let before = generation(&rig);
    // Before a driver is there, and where no interrupt may be raised.
    rig.net.set_link(false);
    assert_eq!(link(&rig), 0);
    assert_eq!(generation(&rig), before.wrapping_add(1));
    rig.start(PLAIN);
    let before = generation(&rig);
    rig.net.suspend(FnState::RunningP2p);
    rig.net.set_link(true);
    assert_eq!(link(&rig), NET_S_LINK_UP);
    assert_eq!(generation(&rig), before.wrapping_add(1));
    rig.net.resume(FnState::Running);
    let set = [CTRL_CLASS_MAC, CTRL_MAC_ADDR_SET, 2, 0, 0, 0, 0, 7];
    assert_eq!(command(&rig, 0, &set), CTRL_OK);
    assert_eq!(rig.get::<6>(DEVICE), [2, 0, 0, 0, 0, 7]);
    assert_eq!(generation(&rig), before.wrapping_add(2));
    // The driver's reset brings the permanent address back.
    rig.put(COMMON + 0x14, &[0]);
    assert_eq!(rig.get::<6>(DEVICE), MAC);
    assert_eq!(generation(&rig), before.wrapping_add(3));
}

#[test]
fn no_interrupt_leaves_a_function_that_does_not_run() {
    let rig = Rig::started(PLAIN);
    interrupts(&rig);
    rig.net.suspend(FnState::RunningP2p);
    // A link change, and a queue of which nothing can be made.
    rig.net.set_link(false);
    rig.net.set_link(true);
    rig.net.shared.gate.lock().device.queues[CTRL].ring = None;
    rig.put(COMMON + 0x16, &CTRLQ.to_le_bytes());
    rig.put(COMMON + 0x28, &[0; 8]);
    rig.put(COMMON + 0x28, &[0; 4]);
    rig.put(COMMON + 0x1c, &1u16.to_le_bytes());
    assert_ne!(rig.status() & STATUS_NEEDS_RESET, 0);
    assert!(interrupts(&rig).is_empty(), "an interrupt in RUNNING_P2P");
    rig.net.resume(FnState::Running);
    assert_eq!(interrupts(&rig), [0], "the one that was due");
}

/// What was masked when the function stopped and is unmasked before it runs again: [`Interrupt::hold`].
#[test]
fn pending_interrupts_are_held_while_the_function_does_not_run() {
    let rig = Rig::started(PLAIN);
    let held = || rig.seen.held.load(std::sync::atomic::Ordering::SeqCst);
    assert!(!held());
    rig.net.suspend(FnState::RunningP2p);
    assert!(held());
    rig.net.suspend(FnState::Stopped);
    rig.net.resume(FnState::RunningP2p);
    assert!(held());
    rig.net.resume(FnState::Running);
    assert!(!held());
    rig.net.suspend(FnState::Stopped);
    PciFunction::reset(&*rig.net, ResetKind::FunctionLevel);
    assert!(!held(), "a reset makes it run");
}

#[test]
fn a_running_function_takes_no_image() {
    let rig = Rig::started(PLAIN);
    rig.net.suspend(FnState::Stopped);
    let image = rig.net.save();
    let target = Rig::new();
    for state in [FnState::Running, FnState::RunningP2p] {
        target.net.suspend(state);
        assert_eq!(target.net.load(&image), Err(LoadError::NotStopped));
        assert_eq!(target.status(), 0);
    }
    target.net.suspend(FnState::Stopped);
    target.net.load(&image).unwrap();
    // It was reset by its own means: the image is gone, and so is the right to load another.
    PciFunction::reset(&*target.net, ResetKind::FunctionLevel);
    assert_eq!(target.status(), 0);
    assert_eq!(target.net.load(&image), Err(LoadError::NotStopped));
    // What the management function undoes late does not hit the next driver.
    target.net.bus_master(true);
    target.start(PLAIN);
    DataFunction::reset(&*target.net);
    assert_eq!(target.status(), 0x0f);
}
