// SPDX-License-Identifier: Apache-2.0 OR MIT

//! A log without room beside one that is used.

use std::sync::atomic::{AtomicBool, Ordering};

use super::*;

/// The ring of the log that is used.
const OTHERS_RING: u64 = 0x9000;
/// Reports of it.
const REPORTS: u64 = 200;

/// Ends the guest of [`a_ring_that_stays_full_delays_no_other_log`], also when that fails.
struct Ends<'a>(&'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// The driver does not consume the ring of function 0, whose guest goes on writing and for whose SYNC there is no
/// room. Nothing that function 1 does waits for that: it is shown by the order of completions, as the
/// SYNC ends only when the test makes room.
#[test]
fn a_ring_that_stays_full_delays_no_other_log() {
    let mut d = Driver::timed([0; 3].map(function), Duration::from_secs(600));
    d.enable(4, 4);
    d.full_log(0);
    let start = |params: &mut abi::dlr_log_start_params| {
        params.ring = OTHERS_RING;
        params.hold_us = 10_000;
    };
    assert_eq!(d.log_start(1, start), OK);
    let waiting = d.sync_all(0, 1);
    let stuffed = d.mf.dirty_sink(0).unwrap();
    let sink = d.mf.dirty_sink(1).unwrap();
    let done = AtomicBool::new(false);
    let posted = |d: &Driver| u64::from(d.log_register(1, abi::DLR_REG_LOG_POSTED));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for n in 0.. {
                stuffed.hold_until(8);
                stuffed.dirty((n % 4096) * 8192, 1);
                if done.load(Ordering::Relaxed) {
                    break;
                }
            }
        });
        let _ends = Ends(&done);
        for n in 0..REPORTS {
            assert_eq!(sink.hold_until(4), None, "DMA waits");
            sink.dirty(n * 8192, 1);
            assert_eq!(posted(&d), 2 * n + 1);
            let sync = d.sync_all(1, n);
            assert_eq!(d.completions(1), [(sync, OK)], "report {n}");
            assert_eq!(posted(&d), 2 * n + 2);
            d.write_fn(1, abi::DLR_REG_LOG_HEAD, 2 * n as u32 + 2);
        }
    });
    let state = d.log_register(0, abi::DLR_REG_LOG_STATE);
    assert_ne!(state & abi::DLR_LOG_STATE_LOST, 0, "it was never full");
    d.write_fn(0, abi::DLR_REG_LOG_HEAD, 16);
    assert_eq!(d.completions(1), [(waiting, OK)]);
}
