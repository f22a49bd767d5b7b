// SPDX-License-Identifier: GPL-2.0

//! The test bed of the layer, which needs no device: a fake driver with an [`engine`] over a few
//! bytes of state and a [`tracker`] over a plain bitmap. Tests can make its calls fail and stall.

mod bar_tests;
mod bed;
mod board;
mod channel_tests;
mod drift_tests;
mod engine;
mod engine_tests;
mod file_tests;
mod hook_tests;
mod odd_tests;
mod opened;
mod precopy_tests;
mod probe_tests;
mod range_tests;
mod save_tests;
mod streams;
mod tracker;
mod tracker_error_tests;
mod tracker_tests;
mod tracker_user_tests;
mod user;
