// SPDX-License-Identifier: Apache-2.0 OR MIT

//! Migration streams as material for tests: where they can be cut, how they can be damaged, and
//! what a device makes of them.
//!
//! | module | knows |
//! | --- | --- |
//! | [`layout`] | where the records of a stream begin and end |
//! | [`damage`] | damaged copies of a stream |
//! | [`reframe`] | those that only a driver's own framing can express |
//! | [`load`] | loading a stream into a device, and what came of it |

pub mod damage;
pub mod layout;
pub mod load;
pub mod reframe;
