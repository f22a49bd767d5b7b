// SPDX-License-Identifier: Apache-2.0 OR MIT

//! Random walks: steps drawn at random, a model that says what each may answer, and, when a
//! device answers otherwise, the shortest walk that shows it.
//!
//! | module | knows |
//! | --- | --- |
//! | [`step`] | the steps and how to draw them |
//! | [`model`] | what the uAPI says that each step does |
//! | [`subject`] | what steps are done to: a device, or in tests a simulated one |
//! | [`explore`] | walks until the model and the device disagree, then shrinks |
//!
//! Every step makes sense in every state (the model says "EINVAL" where it does not), so that a
//! walk stays one when steps are left out.

pub mod explore;
#[cfg(test)]
pub(crate) mod fake;
pub mod model;
pub mod step;
pub mod subject;
