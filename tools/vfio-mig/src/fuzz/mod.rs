// SPDX-License-Identifier: Apache-2.0 OR MIT

//! Random sequences of calls, from a seed, on one device for as long as one wants.
//!
//! | module | knows |
//! | --- | --- |
//! | [`has`] | what a device can do |
//! | [`call`], [`wrong`] | the calls, and how they are drawn |
//! | [`model`] | what each may answer, in a sequence of one thread |
//! | [`target`] | what calls are made on: a device, or in tests a simulated one |
//! | [`run`] | episodes, and the shortest sequence that shows a difference |
//! | [`same`] | whether two streams are of the same state |
//! | [`mutate`], [`streams`] | damaged streams, and what a device does with them |
//! | [`watchdog`] | what to do about a call that never returns |
//! | [`crowd`], [`party`] | calls of several threads and of another process, two writers |

pub mod call;
pub mod crowd;
#[cfg(test)]
mod fake;
pub mod has;
pub mod model;
pub mod mutate;
pub mod party;
pub mod run;
pub mod same;
pub mod streams;
pub mod target;
pub mod watchdog;
pub mod wrong;
