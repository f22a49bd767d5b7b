// SPDX-License-Identifier: Apache-2.0 OR MIT

//! What the log of the NIC says to the user of a VMM that was started wrong.

use std::sync::Mutex;

use super::*;

struct Logger(Mutex<Vec<String>>);

impl log::Log for Logger {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        let line = record.args().to_string();
        if line.contains("share=on") {
            self.0.lock().unwrap().push(line);
        }
    }

    fn flush(&self) {}
}

static LOGGER: Logger = Logger(Mutex::new(Vec::new()));

/// `memory-backend-memfd,share=off`: there is a file, but the client writes to copies of its pages.
#[test]
fn memory_of_zeros_is_said_to_be_not_shared() {
    log::set_logger(&LOGGER).unwrap();
    log::set_max_level(log::LevelFilter::Warn);
    let mut d = Driver::new();
    let (status, ..) = d.run(|sqe| sqe.opcode = 0x7777);
    assert_eq!(status, abi::DLR_STATUS_INVALID_OPCODE);
    d.submit(|sqe| sqe.id = 0);
    d.completion(5000).expect("a completion");
    let told = LOGGER.0.lock().unwrap().clone();
    assert!(!told.is_empty(), "not a word");
    assert!(
        told.iter().all(|line| line.contains("command 0x0000")),
        "{told:?}"
    );
}
