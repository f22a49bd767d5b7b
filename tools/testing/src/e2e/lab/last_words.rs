// SPDX-License-Identifier: Apache-2.0 OR MIT

//! Why a lab's test has failed: what its guests and QEMUs said last, and whether the emulated processor
//! is to blame.

use std::{
    fmt,
    path::PathBuf,
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::{ensure, Result};
use serde_json::{json, Value};

use super::{exits, Lab};
use crate::e2e::{
    blame::{self, EmulatorFault},
    census::{self, Event},
    config::{folder, NMI},
};

/// How long a guest may take to panic when an NMI comes.
const PANIC: Duration = Duration::from_secs(20);

/// Prints the last lines of what each QEMU and each guest has said, with their names.
/// That BARs are not mapped for DMA each QEMU says.
/// Of a guest that panicked also why, and which places were interrupted: after an NMI, if there was one.
const LAST_LINES: &str = "\
    cd /run/vm && for file in */qemu.log */serial; do \
        { first=$(grep -a -n -m 1 'NMI received' $file | cut -d : -f 1); \
          tail -n +${first:-1} $file | \
          grep -a -e 'Kernel panic' -e ' asm_' -e 'RIP: 0010' -e EFLAGS | head -n 12; \
          grep -a -v -e vfio_container_dma_map -e 'PCI peer-to-peer' $file | tail -n 2; } | \
        tr -d '\\r' | sed \"s|^|$file: |\"; done";

/// What guests and QEMUs of a box said last, as the context of an error.
#[derive(Debug)]
struct LastWords {
    /// Folder of results of the box.
    of: PathBuf,
    /// The error itself: of a long report only the end may be seen.
    error: String,
    words: Vec<String>,
}

impl fmt::Display for LastWords {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { error, words, .. } = self;
        write!(f, "{error}\nthe last that was heard:\n{}", words.join("\n"))
    }
}

impl Lab {
    /// Marks an error with [`EmulatorFault`] if it says that a guest is dead or spins
    /// ([`blame::silent`]) and the emulated processor is to blame for that: see [`blame`]. Adds
    /// what KVM noted of a triple fault, and what guests and QEMUs said last, if not: where tests
    /// run for others, their error is all that is seen of them. A guest that spins gets an NMI, so
    /// that it prints where, and ends.
    ///
    /// # Errors
    ///
    /// The same.
    pub fn blame<T>(&self, result: Result<T>) -> Result<T> {
        result.map_err(|e| {
            // A caller that passes an error on may have asked already.
            if e.is::<EmulatorFault>() {
                return e;
            }
            let of = self.host.results().to_path_buf();
            if e.downcast_ref::<LastWords>().is_some_and(|w| w.of == of) {
                return e;
            }
            // A box that is gone tells nothing.
            let exits = self.host.run(exits::SHOW_EXITS).unwrap_or_default();
            for thread in exits::spinning(&exits) {
                if let Err(e) = self.wake(thread) {
                    eprintln!("an NMI to a guest that spins: {e:#}");
                }
            }
            // What cannot be counted is not excused.
            let excused =
                |vm| self.emulator_is_to_blame(vm) && census::enter(Event::Excused, vm).is_ok();
            if blame::silent(&e).is_some_and(excused) {
                return e.context(EmulatorFault);
            }
            let words = self.last_words();
            let error = format!("{e:#}");
            e.context(LastWords { of, error, words })
        })
    }

    /// By what the console of this guest has said since the last mark. Not if the kernel of the box
    /// has complained about anything, or the NIC does not answer.
    fn emulator_is_to_blame(&self, vm: &str) -> bool {
        self.host.check_log().is_ok()
            && self.nic(&json!({"cmd": "stats"})).is_ok()
            && self
                .console_since_mark(vm)
                .is_ok_and(|text| blame::interrupt_came_with_interrupts_disabled(&text))
    }

    /// Sends an NMI to the guest of which this is a virtual processor, and waits until it has panicked.
    fn wake(&self, thread: u32) -> Result<()> {
        let name = self.host.run(&format!(
            "tr '\\0' '\\n' < /proc/{thread}/cmdline | sed -n '/^-name$/{{n;p}}'"
        ))?;
        if name.trim().is_empty() {
            // It has ended since.
            return Ok(());
        }
        let folder = folder(name.trim());
        let mut qmp = self.host.qmp(&format!("{folder}/{NMI}"), PANIC)?;
        qmp.execute("inject-nmi", Value::Null)?;
        let end = Instant::now() + PANIC;
        // It restarts, which ends its QEMU.
        while self.host.run(&format!("test -d /proc/{thread}")).is_ok() {
            ensure!(Instant::now() < end, "it has not panicked");
            sleep(Duration::from_millis(200));
        }
        Ok(())
    }

    /// The last that KVM noted of a guest that ended with a triple fault, and the last lines of
    /// QEMUs and guests.
    fn last_words(&self) -> Vec<String> {
        let exits = self.host.run(exits::SHOW_SHUTDOWN).unwrap_or_default();
        let lines = self.host.run(LAST_LINES).unwrap_or_default();
        let heard = exits.lines().chain(lines.lines());
        heard
            .filter(|line| !line.ends_with(": "))
            .map(str::to_owned)
            .collect()
    }
}
