// SPDX-License-Identifier: Apache-2.0 OR MIT

//! Hostile streams: random ones, through the driver's real parser, its real check of what a user
//! reads, and the reference NIC's real loader.
//!
//! ```text
//!  hostile.rs ── stream ─┬─▶ Parser    drivers/vfio/pci/dlr/vf/stream.rs  ── as contract.rs says
//!  saved.rs              ├─▶ Framing   drivers/vfio/pci/dlr/vf/framing.rs ── as contract.rs says
//!                        └─▶ Streams   samples/dlr-nic/mgmt/src/state     ── as image.rs says
//!                                │
//!                            NetFunction: saved again, and compared
//! ```
//!
//! The driver's files are taken as they are (`build.rs`); `stub.rs` has what they use of the kernel
//! crate. A user may write any bytes to a load session, so this must be right for all of them.
//!
//! # The streams
//!
//! Two of three are made up: header, up to three small sections, trailer. The others are those of
//! functions of the NIC, with queues, filters, interrupts that were raised and a table of flows. One
//! of eight stays good. The others are damaged up to three times, and most of them get checksums that
//! fit the damage: those of sections and stream, lengths and numbers as well, or that of the image as
//! well. Each comes in pieces of any length. Stream number n is the same in every run and does not
//! depend on the streams before it.
//!
//! # What is shown for each
//!
//! * The parser passes on the bytes of the complete sections, no others and none twice, and it ends
//!   with the errno of the contract, after which it refuses everything.
//! * The framing, which tells the source that its user has read a whole stream, finds each stream
//!   whole that the target takes.
//! * What the parser refuses, the NIC refuses, and nothing of it is left in the function.
//! * What the parser takes, the NIC takes if and only if its sections make up a state whose image the
//!   function takes. [`image::state`] has the list of what the NIC checks and the driver does not.
//! * What the NIC has taken is saved again: table and image are those of the stream, and what is
//!   written is a stream that the driver takes. Only an image of the version before may differ, in
//!   what that version did not have ([`image::saved_again`]).
//!
//! `checks.rs` requires that each outcome is frequent. `DLR_STREAMS` sets the number of streams.
//!
//! `tests/bugs.rs` runs the streams on a second copy of the driver's files, which has a switch at the
//! place of each bug of `build/bugs.rs`, and `nic_checks.rs` on functions that are wrong. Each of them
//! has to be found.
//!
//! # What is not covered
//!
//! * The commands by which the driver passes sections to the device, and a session that ends early:
//!   `vfio-mig check`, and the tests in host boxes.
//! * Whether a function works with what it has taken: the fuzz target `state` of the NIC.

#![cfg(test)]
// The driver's files name the kernel crate, and are linted where they belong.
extern crate self as kernel;

/// Takes in a file of the copy that has the files as they are.
macro_rules! copied {
    ($file:literal) => {
        include!(concat!(env!("OUT_DIR"), "/real/", $file));
    };
}

include!("tree.rs");

mod checks;
mod nic_checks;
