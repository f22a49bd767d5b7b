// SPDX-License-Identifier: Apache-2.0 OR MIT

//! What a load says about the guest's address, and that what it advises helps.

use std::{cell::RefCell, sync::Once};

use dlr_core::{DataFunction, FnState};
use dlr_pci::{PciFunction, ResetKind};

use crate::{regs::DEVICE, testing::*, Addresses};

const FOREIGN: [u8; 6] = [2, 0, 0, 0, 1, 1];
const SPARE: [u8; 6] = [2, 0, 0, 0, 0, 0x77];

thread_local! {
    /// What was logged in this thread.
    static LINES: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

struct Logger;

impl log::Log for Logger {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        let line = format!("{}: {}", record.level(), record.args());
        LINES.with_borrow_mut(|lines| lines.push(line));
    }

    fn flush(&self) {}
}

/// What a load of `image` logs.
fn told(to: &Rig, image: &[u8]) -> String {
    static LOGGER: Once = Once::new();
    LOGGER.call_once(|| {
        log::set_logger(&Logger).unwrap();
        log::set_max_level(log::LevelFilter::Info);
    });
    to.net.suspend(FnState::Stopped);
    LINES.take();
    to.net.load(image).unwrap();
    LINES.take().join("\n")
}

fn flr(rig: &Rig) -> [u8; 6] {
    PciFunction::reset(&*rig.net, ResetKind::FunctionLevel);
    rig.get(DEVICE)
}

#[test]
fn a_second_holder_is_told() {
    let addresses = Addresses::new([MAC, FOREIGN]);
    let one = Rig::function(memory(), 0, addresses.clone());
    let two = one.sibling(1, &addresses);
    one.start(PLAIN);
    one.net.suspend(FnState::Stopped);
    let image = one.net.save();
    let line = told(&two, &image);
    assert_eq!(
        line,
        "INFO: function 1: 02:00:00:00:00:09 comes from function 0"
    );
    one.net.resume(FnState::Running);
    let line = told(&two, &image);
    assert!(line.starts_with("WARN: function 1: "), "{line}");
    assert!(line.contains("and function 0 runs with it"), "{line}");
    assert!(!line.contains('\n'), "{line}");
}

#[test]
fn an_address_that_a_reset_would_take_away_is_told() {
    let one = Rig::new();
    let two = Rig::function(memory(), 0, Addresses::new([FOREIGN]));
    one.start(PLAIN);
    one.net.suspend(FnState::Stopped);
    let image = one.net.save();
    let line = told(&two, &image);
    assert!(
        line.starts_with("WARN: function 0: 02:00:00:00:00:09 was"),
        "{line}"
    );
    let advice = r#"{"cmd":"address","function":0,"mac":"02:00:00:00:00:09"}"#;
    assert!(line.contains(advice), "{line}");
    two.net.resume(FnState::Running);
    assert_eq!(flr(&two), FOREIGN, "the guest has lost its address");
    // As advised, after the load.
    told(&two, &image);
    two.net.resume(FnState::Running);
    two.net.assign_address(MAC).unwrap();
    assert_eq!(flr(&two), MAC);
}

/// "With two NICs" in the README.
#[test]
fn management_moves_an_address_to_another_nic() {
    let one = Rig::new();
    let two = Rig::function(memory(), 0, Addresses::new([FOREIGN]));
    one.start(PLAIN);
    two.net.assign_address(MAC).unwrap();
    one.net.suspend(FnState::Stopped);
    assert_eq!(told(&two, &one.net.save()), "");
    two.net.resume(FnState::Running);
    one.net.assign_address(SPARE).unwrap();
    assert_eq!(flr(&one), SPARE, "two guests with one address");
    assert_eq!(flr(&two), MAC);
}
