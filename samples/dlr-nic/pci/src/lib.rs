// SPDX-License-Identifier: Apache-2.0 OR MIT

//! PCI functions of the reference NIC as an unmodified QEMU sees them.
//!
//! ```text
//!   QEMU ── vfio-user socket ──▶ server ──▶ ConfigSpace      registers every function has
//!                                      ├──▶ dyn PciFunction  BARs: what this function is
//!                                      ├──▶ DmaSpace ◀────── DMA of the function
//!                                      └──▶ Msix     ◀────── its interrupts
//! ```
//!
//! A [`Port`] bundles configuration space, memory and interrupts; it exists before the
//! function that is built on it, and [`serve`] joins the two behind a socket.

#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

pub mod config;
pub mod dma;
mod function;
mod irq;
mod presence;
mod server;
mod signal;
#[cfg(test)]
mod testing;
mod vfio_user;
mod vhost;

pub use config::ConfigSpace;
pub use dma::{DmaGuard, DmaSpace, FileCache, FunctionMemory};
pub use function::{PciFunction, Port, ResetKind};
pub use irq::Msix;
pub use server::{converse, serve, Server};
pub use vhost::{serve as serve_vhost, Reach};
