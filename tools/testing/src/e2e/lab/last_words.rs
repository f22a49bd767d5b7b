// SPDX-License-Identifier: Apache-2.0 OR MIT

//! Why a lab's test has failed: what its guests and QEMUs said last, and whether the emulated processor
//! is to blame.

use std::{fmt, path::PathBuf};

use anyhow::Result;

use super::Lab;
use crate::e2e::{
    blame::{self, EmulatorFault},
    exits,
};

/// Prints the last lines of what each QEMU and each guest has said, with their names.
/// That BARs are not mapped for DMA each QEMU says.
const LAST_LINES: &str = "cd /run/vm && for file in */qemu.log */serial; do \
                          grep -v -e vfio_container_dma_map -e 'PCI peer-to-peer' $file | \
                          tail -n 2 | tr -d '\\r' | sed \"s|^|$file: |\"; done";

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
    /// Whether this box or a guest of it died of the emulated processor: see [`blame`]. Not if the
    /// kernel has complained about anything else.
    pub fn emulator_is_to_blame(&self) -> bool {
        // Nothing excuses what the box's kernel complained about, but its own death.
        if self.host.check_log().is_err() {
            let log = self.host.kernel_log();
            return log.is_ok_and(|log| blame::box_was_killed(&log));
        }
        let says = |files: &str, guilty: &dyn Fn(&str) -> bool| {
            let text = self.host.run(&format!("cat {files}"));
            text.is_ok_and(|text| guilty(&text))
        };
        let exits = self.host.run(exits::SHOW_EXITS);
        let kinds = [
            exits::died_of_an_interrupt,
            exits::could_not_go_on,
            exits::is_where_the_box_was,
        ];
        let lives = self.host.run(exits::SHOW_LIVES).unwrap_or_default();
        let is_known = |said: &str| {
            kinds.iter().any(|kind| kind(said)) || exits::waits_for_its_own_clock(said, &lives)
        };
        if exits.is_ok_and(|said| is_known(&said)) {
            return true;
        }
        says("/run/vm/*/serial", &blame::interrupt_came_twice)
            || says("/run/vm/*/qemu.log", &|log| {
                blame::ran_on_foreign_page_tables(log, self.largest_mib)
            })
    }

    /// Marks an error with [`EmulatorFault`] if the emulated processor is to blame for it, and adds
    /// what guests and QEMUs said last if not: where tests run for others, their error is all that
    /// is seen of them.
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
            if self.emulator_is_to_blame() {
                return e.context(EmulatorFault);
            }
            let of = self.host.results().to_path_buf();
            if e.downcast_ref::<LastWords>().is_some_and(|w| w.of == of) {
                return e;
            }
            let words = self.last_words();
            let error = format!("{e:#}");
            e.context(LastWords { of, error, words })
        })
    }

    /// The last that KVM noted of a guest that ended with a triple fault, and the last lines of
    /// QEMUs and guests.
    fn last_words(&self) -> Vec<String> {
        let exits = self.host.run(exits::SHOW_EXITS).unwrap_or_default();
        let exits = exits::last_words(&exits).into_iter().map(str::to_owned);
        let lines = self.host.run(LAST_LINES).unwrap_or_default();
        let lines = lines.lines().filter(|line| !line.ends_with(": "));
        exits.chain(lines.map(str::to_owned)).collect()
    }
}
