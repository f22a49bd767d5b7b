// SPDX-License-Identifier: Apache-2.0 OR MIT

//! Copies the layer's files for user space, and for each known bug one more copy that has it.
//!
//! A copy ends before the file's KUnit tests. `#[pin_data]`, `#[pin]` and the arrow of `pin_init!`
//! are taken out: what a test makes does not move anyway, because it lives in an `Arc`.

use std::{env, fs, path::Path};

use anyhow::{ensure, Context, Result};

/// A file below `drivers/vfio/rust`, and its bugs: the name of a copy, a text that occurs once, and
/// what stands there in that copy.
struct Source {
    path: &'static str,
    name: &'static str,
    bugs: &'static [(&'static str, &'static str, &'static str)],
}

const SOURCES: &[Source] = &[
    Source {
        path: "vfio/migration/state.rs",
        name: "state",
        bugs: &[],
    },
    Source {
        path: "vfio/dirty/lock.rs",
        name: "lock",
        bugs: &[
            (
                "no_barrier_after_release",
                "// ORDERING: Between the release of the lock by this thread and the load of `owed`.
            smp_mb(barrier::Full);",
                "",
            ),
            (
                "owed_without_a_barrier",
                "self.owed.xchg(true, Full);",
                "self.owed.store(true, Relaxed);",
            ),
            (
                "cleared_after_the_work",
                "self.owed.xchg(false, Full);
            debtor.pay(&mut guard);",
                "debtor.pay(&mut guard);
            self.owed.xchg(false, Full);",
            ),
            (
                "holder_does_not_look",
                "drop(guard);
        self.settle(debtor);",
                "drop(guard);",
            ),
        ],
    },
    Source {
        path: "vfio/state_lock.rs",
        name: "state_lock",
        bugs: &[
            (
                "released_without_the_spinlock",
                "if !*pending {
                // Release the lock with the spinlock held: a reset that comes now waits for the
                // spinlock and then finds the lock free.
                drop(guard);",
                "if !*pending {
                drop(pending);
                drop(guard);",
            ),
            (
                "requested_after_the_attempt",
                "*pending = true;
        let guard = self.locked.try_lock();
        drop(pending);",
                "drop(pending);
        let guard = self.locked.try_lock();
        *self.reset_pending.lock() = true;",
            ),
            (
                "holder_does_not_look",
                "if !*pending {",
                "if true {",
            ),
        ],
    },
    Source {
        path: "ext/bound_cell/users.rs",
        name: "users",
        bugs: &[
            (
                "counted_by_load_and_store",
                "self.count.fetch_add(1, Full) < MAX_USERS",
                "{ let n = self.count.load(Acquire); self.count.store(n + 1, Release); n < MAX_USERS }",
            ),
            (
                "revoked_without_waiting",
                "!= 0 {
            self.left.wait();",
                "!= 0 {",
            ),
            (
                "pause_looked_at_before_the_count",
                "if !self.enter_in_pause() {
            return false;
        }",
                "if !self.paused.load(Acquire) {
            return self.enter_in_pause();
        }",
            ),
            (
                "pause_without_a_barrier",
                "self.paused.xchg(true, Full);",
                "self.paused.load(Acquire);
        self.paused.store(true, Release);",
            ),
        ],
    },
    Source {
        path: "ext/event.rs",
        name: "event",
        bugs: &[
            (
                "signalled_by_load_and_store",
                "if !self.pending.xchg(true, Full) {",
                "if !self.pending.load(kernel::sync::atomic::Acquire) {
            self.pending.store(true, kernel::sync::atomic::Release);",
            ),
            (
                "cleared_without_a_barrier",
                "self.pending.xchg(false, Full);",
                "self.pending.store(false, kernel::sync::atomic::Relaxed);",
            ),
        ],
    },
];

fn main() -> Result<()> {
    println!("cargo::rustc-check-cfg=cfg(CONFIG_KUNIT, values(\"y\"))");
    let out = env::var("OUT_DIR")?;
    let layer = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../drivers/vfio/rust");
    for source in SOURCES {
        let path = layer.join(source.path);
        println!("cargo::rerun-if-changed={}", path.display());
        let text = fs::read_to_string(&path).with_context(|| format!("{}", path.display()))?;
        let text = dlr_copies::code(&text).replace(" <- ", ": ");
        fs::write(Path::new(&out).join(format!("{}.rs", source.name)), &text)?;
        for (bug, old, new) in source.bugs {
            ensure!(
                text.matches(old).count() == 1,
                "{}: the place of the bug {bug} does not occur once: {old:?}",
                source.path
            );
            let name = format!("{}_{bug}.rs", source.name);
            fs::write(Path::new(&out).join(name), text.replace(old, new))?;
        }
    }
    Ok(())
}
