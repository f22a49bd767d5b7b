// SPDX-License-Identifier: Apache-2.0 OR MIT

//! The world of a run: the NIC's log engine, its function, guest memory, the ring and the VMM.
//!
//! The driver runs, and stops wherever it meets the device. There `World::moment` asks the explorer
//! which steps the device takes before the driver goes on. So the only interleavings that are left
//! out are those of accesses that do not meet.
//!
//! No file imports one that is listed after it:
//!
//! | file | contents |
//! | --- | --- |
//! | `scenario` | what is explored |
//! | `event` | what happens in a run |
//! | `memory` | memory of the ring, and the interrupt |
//! | `state` | the world |
//! | `function` | the data function and its DMA gate |
//! | `sync` | SYNCs that were given, and when they are executed |
//! | `steps` | the steps of the device, and the moments at which it takes them |
//! | `nic` | the NIC as the driver sees it |
//! | `vmm` | the VMM, and a whole run |

pub(crate) mod event;
mod function;
pub(crate) mod memory;
mod nic;
pub(crate) mod scenario;
pub(crate) mod state;
mod steps;
mod sync;
pub(crate) mod vmm;
