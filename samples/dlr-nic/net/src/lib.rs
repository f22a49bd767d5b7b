// SPDX-License-Identifier: Apache-2.0 OR MIT

//! The data function of the reference NIC: a modern virtio-net device.
//!
//! ```text
//!   BAR accesses ──▶ registers ──┐                    ┌─▶ WireTx, FlowSink
//!   WireRx::deliver ─────────────┼─▶ Device (gate) ───┤
//!   engine thread (doorbells) ───┘    queues          └─▶ DmaSpace ─▶ DirtySink
//! ```
//!
//! One lock, the *gate*, holds registers and queues. All DMA happens under it, so a write
//! and its announcement to the dirty log are one step for whoever takes the gate. Frames
//! leave for the wire after the gate is open again.

#![forbid(unsafe_code)]

mod addresses;
mod announce;
mod chain;
mod ctrl;
mod device;
mod engine;
mod filter;
mod function;
mod image;
mod offload;
mod readout;
mod regs;
mod ring;
mod rx;
mod sabotage;
mod size;
mod stats;
#[cfg(test)]
mod testing;
mod tx;
mod window;

pub use addresses::{Addresses, AssignError};
pub use function::{NetConfig, NetFunction};
pub use regs::pci_config;
pub use size::{QueueSize, SizeError};
