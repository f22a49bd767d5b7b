// SPDX-License-Identifier: Apache-2.0 OR MIT

//! Times of a command.

/// Longest time of a command that the NIC is started with, milliseconds.
pub(crate) const TIMEOUT_MS: u64 = 1500;
/// What the driver adds.
pub(crate) const MARGIN_MS: u64 = 500;
