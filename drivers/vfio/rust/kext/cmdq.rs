// SPDX-License-Identifier: GPL-2.0

//! The parts of a command queue that do not depend on its hardware.
//!
//! A management function executes commands for several other functions. The driver shares a
//! submission ring and a completion ring with it, and several commands are in flight at a time.
//! These parts are data structures and decisions: they access no device, take no lock and do not
//! sleep. The vendor's queue puts them under its own spin lock.
//!
//! | file | contents |
//! | --- | --- |
//! | `ring` | ends of the two rings: free-running counts, slots and phase bits |
//! | `slots` | ids of the commands in flight |
//! | `shares` | division of the slots between functions and classes of commands |
//! | `fate` | what becomes of commands that the device has dropped |
//! | `life` | states of the queue, from a command that is overdue to the next one that works |

pub(crate) mod fate;
pub(crate) mod life;
pub(crate) mod ring;
pub(crate) mod shares;
pub(crate) mod slots;
