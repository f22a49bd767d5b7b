// SPDX-License-Identifier: GPL-2.0

//! The vfio-pci variant driver of a data function.
//!
//! ```text
//!            crate::vfio: state machine, sessions, files, log
//!        │ Engine          │ SaveSource, LoadSink  │ Tracker
//!   ┌────▼────────┐ ┌──────▼────────────┐ ┌────────▼──────────┐
//!   │ engine      │ │ save    load      │ │ tracker           │
//!   │             │ │ (framing, stream) │ │                   │
//!   └────┬────────┘ └──────┬────────────┘ └────────┬──────────┘
//!        └─────────────────▼───────────────────────▼
//!            crate::mgmt::Function: commands of this function
//! ```
//!
//! * `driver` implements the traits of the layer and states the capabilities of the function.
//!   `pair` finds its management function and proves that it is the right one.
//! * `engine` changes the run state of the function and begins sessions.
//! * `save` and `load` read and write its state. They refer to the function's handle, never to the
//!   device; the calls of the handle fail with `ENOTCONN` when the management function is gone.
//! * `tracker` connects the layer's log ring to the commands of the function. It is independent of
//!   states and sessions.
//!
//! Lock order: state lock, then a session's `io`, then leaf locks. File operations take `reader`
//! and `writer` of a session before these; the end of a session only tries to take them. The log
//! lock is never held together with any of them. All of these locks belong to the layer. No thread
//! sleeps under `io`, because a reset takes it.

#![forbid(unsafe_code)]

mod driver;
mod engine;
mod framing;
mod identity;
mod load;
mod pair;
mod proof;
mod save;
mod stream;
mod tracker;

pub(crate) use driver::Vf;
