// SPDX-License-Identifier: Apache-2.0 OR MIT

//! The driver's real log session and the reference NIC's real log engine, run against each other in
//! all interleavings within small bounds.
//!
//! ```text
//!  VMM ── REPORT ──▶ Log, Session, RingTracker, LogRing ── memory ── LogEngine ◀── DMA writes
//!  world/vmm.rs      drivers/vfio/rust/vfio/dirty          of a      samples/dlr-nic/mgmt/src/log
//!                                                          ring
//! ```
//!
//! The files are those of the driver and of the NIC: `build.rs` takes their code as it is, apart
//! from what `build/sources.rs` lists. `stub/` has what the driver's files use of the kernel crate.
//! The vendor driver's format of an entry (`proto/log.rs`) is the real one, too. `world/nic.rs`
//! stands for the commands: for `vf/tracker.rs`, `mgmt/function_log.rs` and the command queue of
//! the vendor driver, and for queue and workers of the NIC.
//!
//! # What is explored
//!
//! One thread runs. The driver stops before each access that meets the device: a read of POSTED, of
//! a word of the ring or of a chunk of words, a return of slots, a wait for a SYNC before and after
//! its execution, LOG_ADD, an unmap and SUSPEND. At each stop the device takes any sequence of
//! steps: a DMA write to one of up to three pages, the two halves of one, a write that was held
//! back asks again or finds its time up, many writes at once, the execution of a SYNC, a reset of
//! the function, an entry of an unknown type, a ring that cannot be written, the loss of the
//! management function. So does the thread of the interrupt, once the vector was raised. SUSPEND
//! ends the writes, and none of the other steps.
//!
//! The search (`explore.rs`) is depth first, keeps no states, and repeats the run with each
//! sequence of answers. `world/scenario.rs` has the bounds: up to four writes, two or three REPORTs
//! before the last one, a ring of 16 entries, which is the smallest, and which is empty, nearly
//! full or filled at any moment. `DLR_EXPLORER_MORE_WRITES=1` adds a write to each scenario, and
//! takes an hour.
//!
//! The VMM copies all memory after START, then at the end of each REPORT what it named, then
//! suspends the function, takes a last REPORT and copies. In each run
//!
//! * the copy equals the memory in the end, unless a REPORT that fails with a cause has ended the
//!   run,
//! * no REPORT fails unless an entry, the ring or the management function was spoilt, or the VMM's
//!   own memory has ended it,
//! * each REPORT ends: a run has at most `ENDLESS` stops (`world/state.rs`),
//! * and, in the scenarios of which it has all steps, the run is one of the abstract protocol
//!   (`tools/dlr-model`), step by step: `refine.rs`.
//!
//! `tests/bugs.rs` explores a second copy of the files, which has a switch at the place of each bug
//! of `build/bugs.rs`. Each of them, and each switch of the NIC's log engine, has to be found.
//!
//! # What is not covered
//!
//! * Threads: the driver's locks are checked by `tools/dlr-loom`, and what the lock of the engine
//!   protects is one step here. Memory is sequentially consistent.
//! * The VMM copies as soon as a REPORT ends. A later copy has newer bytes.
//! * Allocations succeed, but for that of a SYNC. The bitmap of a few granules is a list, not a
//!   bitmap.
//! * Aborts and handshakes: here they only drop the answer of a SYNC, or the SYNC.
//! * The count of entries does not wrap at 2^31.
//! * The driver's `fetch_writes` takes chunks of 16 WRITEs at once. Here it never finds one,
//!   because the ring of 16 entries keeps a slot for LOST and so never holds 16 WRITEs.
//!
//! Scenarios with one of the following are checked for lost pages only, because the abstract
//! protocol does not have it: runs of several granules in an entry, granules of more than a page,
//! REPORTs of parts of what is mapped, REPORTs that are cut short, a SYNC without memory, a ring
//! that cannot be written. For rule 10 it spoils an entry, where the NIC posts one more, and runs
//! that end with a loss of the management function are not followed.

#![cfg(test)]
// The layer's files name the kernel crate, and are linted where they belong.
extern crate self as kernel;

/// Takes in a file of the copy that has the files as they are.
macro_rules! copied {
    ($file:literal) => {
        include!(concat!(env!("OUT_DIR"), "/real/", $file));
    };
}

include!("tree.rs");

mod checks;
