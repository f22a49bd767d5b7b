// SPDX-License-Identifier: GPL-2.0

//! The vfio-pci variant driver of a data function.
//!
//! ```text
//!            VFIO core, through crate::vfio
//!   set state │        │ read, write, poll   │ start, report, stop
//!   ┌─────────▼───┐ ┌──▼────────────────┐ ┌──▼───────────────────┐
//!   │ migrate     │ │ save    resume    │ │ dirty                │
//!   │ (fsm: plan) │ │ (queue) (stream)  │ │ (session, bitmap)    │
//!   │ state lock  │ │ a lock of each    │ │ log lock             │
//!   └─────────┬───┘ └──┬────────────────┘ └──┬───────────────────┘
//!             └────────▼─────────────────────▼
//!            crate::mgmt::Function: commands of this function
//! ```
//!
//! * `driver` pairs the function with its NIC, says what it can do, and is the
//!   implementation of the layer's traits.
//! * `fsm` says what an arc of the state machine means, `migrate` does it.
//! * A session (`save`, `resume`) belongs to its file, which outlives everything. It
//!   never points at the device, only at the function's handle, which says `ENOTCONN`
//!   when the management function is gone.
//! * `dirty` knows nothing of states and sessions, and they know nothing of it.
//!
//! Lock order: state lock → a session's `io` → leaf locks. `reader` and `writer` of
//! sessions are taken first and only by file operations; the log lock stands alone.

#![forbid(unsafe_code)]

mod buffer;
mod debugfs;
mod dirty;
mod driver;
mod fsm;
mod identity;
mod migrate;
mod outgoing;
mod precopy;
mod resets;
mod resume;
mod save;
mod shared;
mod stream;

pub(crate) use driver::Vf;
