// SPDX-License-Identifier: Apache-2.0 OR MIT

//! The commands: each has its arguments, its report, and a function from one to the other.

pub mod check;
pub mod drive;
pub mod fuzz;
pub mod info;
pub mod list;
pub mod load;
pub mod log;
pub mod mirror;
pub mod mirrored;
pub mod save;
