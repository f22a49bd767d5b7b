// SPDX-License-Identifier: Apache-2.0 OR MIT

//! SIGINT and SIGTERM: the first one asks the command to end in order, the second one ends it.
//!
//! A handler would not do. A call into a driver that hangs waits killably: a signal with a handler
//! does not end such a wait, and a thread that waits so never comes to run the handler. So the signals
//! are blocked in all threads, and one thread takes them by sigwait(). Its exit kills the others, and
//! the kernel closes the device, which resets it.

use std::{
    io::{self, Write},
    process,
    sync::{
        atomic::{AtomicBool, Ordering},
        Arc,
    },
    thread,
};

use anyhow::{Context, Result};
use nix::sys::signal::{SigSet, Signal};

/// Exit code of a program that SIGINT ended, as shells count.
const INTERRUPTED: i32 = 128 + Signal::SIGINT as i32;

/// From now on the first SIGINT or SIGTERM sets `stop`, and one that comes when it is set ends the
/// program. Has to be called before any thread is started, since each inherits what is blocked.
///
/// # Errors
///
/// The signals cannot be blocked, or there is no thread to be had.
pub fn watch(stop: Arc<AtomicBool>) -> Result<()> {
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGINT);
    signals.add(Signal::SIGTERM);
    signals.thread_block().context("cannot block signals")?;
    let take = move || {
        while signals.wait().is_ok() {
            if stop.swap(true, Ordering::Relaxed) {
                process::exit(INTERRUPTED);
            }
            // Nothing can be done about a closed standard error.
            let _ = writeln!(
                io::stderr(),
                "vfio-mig: ending in order; a second signal ends at once, which resets the device"
            );
        }
    };
    let thread = thread::Builder::new().name("signals".to_owned());
    thread.spawn(take).context("cannot start a thread")?;
    Ok(())
}
