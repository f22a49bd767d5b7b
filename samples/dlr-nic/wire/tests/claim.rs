// SPDX-License-Identifier: Apache-2.0 OR MIT

//! A load brings an address to a port, and the wire says where it knew that address before.

#![allow(clippy::unwrap_used)]

use std::{
    sync::Mutex,
    time::{Duration, Instant},
};

use dlr_wire::{Wire, WireConfig};

const MAC: [u8; 6] = [2, 0, 0, 0, 0, 5];

struct Logger(Mutex<Vec<String>>);

impl log::Log for Logger {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        self.0.lock().unwrap().push(record.args().to_string());
    }

    fn flush(&self) {}
}

static LOGGER: Logger = Logger(Mutex::new(Vec::new()));

#[test]
fn an_address_that_is_loaded_elsewhere_is_told() {
    log::set_logger(&LOGGER).unwrap();
    log::set_max_level(log::LevelFilter::Info);
    let wire = Wire::new(&"none".parse::<WireConfig>().unwrap(), 2).unwrap();
    let mut frame = [[0xff; 6], MAC].concat();
    frame.resize(60, 0);
    wire.tx(0).send(&frame);
    // Where it was, and where nobody knew it.
    wire.tx(0).claim(MAC);
    wire.tx(1).claim([2, 0, 0, 0, 0, 6]);
    wire.tx(1).claim(MAC);
    let end = Instant::now() + Duration::from_secs(60);
    let told = loop {
        let told = LOGGER.0.lock().unwrap().clone();
        if !told.is_empty() {
            break told;
        }
        assert!(Instant::now() < end, "nothing was told");
        std::thread::sleep(Duration::from_millis(2));
    };
    assert_eq!(
        told,
        ["wire: 02:00:00:00:00:05 was loaded at port 1; it was heard last at port 0 and must be \
          silent there now"]
    );
}
