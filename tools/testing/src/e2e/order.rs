// SPDX-License-Identifier: Apache-2.0 OR MIT

//! The order of QEMU's requests to its VFIO devices, as its trace has it. Pure.
//!
//! | step             | is                                                              |
//! |------------------|-----------------------------------------------------------------|
//! | `LOG_START`      | DMA logging was started                                         |
//! | `REPORT`         | one or more requests for a dirty bitmap in a row                |
//! | `STATE`          | a state was set, as `PRE_COPY_P2P`                              |
//! | `->STATE`        | the device went there because another request had failed        |
//! | `READ`, `WRITE`  | device state was read or written, once or more in a row         |
//! | `SAVED`, `LOADED`| the data file was closed                                        |

use std::{collections::HashMap, fmt};

use anyhow::{ensure, Result};

use super::trace::{device, field, split};

/// Steps of all devices, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Order(pub Vec<Step>);

/// One request, or several alike in a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// Device, as `vf0`; empty where the trace names none.
    pub device: String,
    /// What was asked.
    pub what: String,
}

impl Order {
    /// Reads a piece of a trace.
    pub fn parse(text: &str) -> Self {
        let mut order = Self::default();
        let mut asked = HashMap::new();
        for (_, event, rest) in text.lines().filter_map(split) {
            let (name, rest) = device(rest).unwrap_or(("", rest));
            match event {
                // Not answered by the next event if the device is there already.
                "vfio_migration_set_state" => {
                    let state = rest.trim_start_matches("new state ");
                    asked.insert(name, state.split(',').next().unwrap_or(state).trim());
                }
                "vfio_migration_set_device_state" => {
                    let state = rest.trim_start_matches("state ").trim();
                    if asked.remove(name) == Some(state) {
                        order.push(name, state);
                    } else {
                        order.push(name, &format!("->{state}"));
                    }
                }
                "vfio_device_dirty_tracking_start" => order.push("", "LOG_START"),
                "vfio_container_query_dirty_bitmap" => order.push("", "REPORT"),
                "vfio_save_block" if field(rest, "data_size ") != Some(0) => {
                    order.push(name, "READ");
                }
                "vfio_load_state_device_data" => order.push(name, "WRITE"),
                "vfio_save_cleanup" => order.push(name, "SAVED"),
                "vfio_load_cleanup" => order.push(name, "LOADED"),
                _ => (),
            }
        }
        order
    }

    fn push(&mut self, device: &str, what: &str) {
        let repeats = self.0.last().is_some_and(|last| {
            last.device == device
                && last.what == what
                && matches!(what, "REPORT" | "READ" | "WRITE")
        });
        if !repeats {
            self.0.push(Step {
                device: device.to_owned(),
                what: what.to_owned(),
            });
        }
    }

    /// What was asked, without the devices.
    pub fn names(&self) -> Vec<&str> {
        self.0.iter().map(|step| step.what.as_str()).collect()
    }

    /// The changes of state only.
    pub fn states(&self) -> Vec<&str> {
        let others = ["LOG_START", "REPORT", "READ", "WRITE", "SAVED", "LOADED"];
        let mut names = self.names();
        names.retain(|name| !others.contains(name));
        names
    }

    /// Fails unless the states are these, in this order, separated by spaces.
    ///
    /// # Errors
    ///
    /// Names both lists.
    pub fn expect_states(&self, states: &str) -> Result<()> {
        let wanted: Vec<&str> = states.split_whitespace().collect();
        ensure!(
            self.states() == wanted,
            "states {:?} instead of {wanted:?}",
            self.states()
        );
        Ok(())
    }

    /// Fails unless the steps match: names separated by spaces, where `LOOP` stands for any
    /// number of `REPORT` and `READ`.
    ///
    /// # Errors
    ///
    /// Names both lists.
    pub fn expect(&self, steps: &str) -> Result<()> {
        let wanted: Vec<&str> = steps.split_whitespace().collect();
        ensure!(
            matches(&self.names(), &wanted),
            "steps {:?} instead of {wanted:?}",
            self.names()
        );
        Ok(())
    }
}

fn matches(names: &[&str], wanted: &[&str]) -> bool {
    match (names, wanted) {
        (_, []) => names.is_empty(),
        ([], ["LOOP", rest @ ..]) => matches(&[], rest),
        ([], _) => false,
        ([name, names_left @ ..], ["LOOP", rest @ ..]) => {
            let looping = matches!(*name, "REPORT" | "READ");
            matches(names, rest) || (looping && matches(names_left, wanted))
        }
        ([name, names @ ..], [first, rest @ ..]) => name == first && matches(names, rest),
    }
}

impl fmt::Display for Order {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for step in &self.0 {
            write!(
                f,
                "{}{}{} ",
                step.device,
                if step.device.is_empty() { "" } else { ":" },
                step.what
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
2026-11-21T12:00:00.050000Z vfio_device_dirty_tracking_start nr_ranges 1 32:[0x0 - 0x1]
2026-11-21T12:00:00.110000Z vfio_container_query_dirty_bitmap iova=0x0 size=0xc3000 dirty_pages=2
2026-11-21T12:00:00.120000Z vfio_container_query_dirty_bitmap iova=0x100000 size=0x1 dirty_pages=40
2026-11-21T12:00:00.300000Z vfio_migration_set_state  (vf0) new state PRE_COPY, recover state RUNNING
2026-11-21T12:00:00.300100Z vfio_migration_set_device_state  (vf0) state PRE_COPY
2026-11-21T12:00:01.000000Z vfio_save_block  (vf0) data_size 1000
2026-11-21T12:00:01.000000Z vfio_save_block  (vf0) data_size 0
2026-11-21T12:00:01.100000Z vfio_container_query_dirty_bitmap iova=0x0 size=0xc3000 dirty_pages=2
2026-11-21T12:00:01.200000Z vfio_save_block  (vf0) data_size 10
2026-11-21T12:00:02.200000Z vfio_migration_set_state  (vf0) new state PRE_COPY_P2P, recover state ERROR
2026-11-21T12:00:02.300000Z vfio_migration_set_device_state  (vf0) state RUNNING
2026-11-21T12:00:02.310000Z vfio_migration_set_state  (vf0) new state RUNNING, recover state ERROR
2026-11-21T12:00:02.400000Z vfio_save_cleanup  (vf0)
";

    #[test]
    fn a_failed_migration() {
        let order = Order::parse(TEXT);
        assert_eq!(
            order.names(),
            [
                "LOG_START",
                "REPORT",
                "PRE_COPY",
                "READ",
                "REPORT",
                "READ",
                "->RUNNING",
                "SAVED"
            ]
        );
        order.expect_states("PRE_COPY ->RUNNING").unwrap();
        order
            .expect("LOG_START REPORT PRE_COPY LOOP ->RUNNING SAVED")
            .unwrap();
        order
            .expect("LOG_START LOOP PRE_COPY LOOP ->RUNNING LOOP SAVED")
            .unwrap();
        assert!(order
            .expect("LOG_START PRE_COPY LOOP ->RUNNING SAVED")
            .is_err());
        assert!(order
            .expect("LOG_START REPORT PRE_COPY LOOP ->RUNNING")
            .is_err());
        assert_eq!(Order::parse(""), Order::default());
    }
}
