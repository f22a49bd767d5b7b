// SPDX-License-Identifier: Apache-2.0 OR MIT

//! `vfio-mig` drives the VFIO migration (v2) and DMA logging uAPI of any device, without a
//! virtual machine.
//!
//! | module | knows |
//! | --- | --- |
//! | [`sys`] | the ioctls that no crate wraps; the only `unsafe` |
//! | [`state`], [`bitmap`], [`range`], [`image`] | the uAPI's meaning and the tool's file; no I/O on devices |
//! | [`outfile`], [`infile`] | files of the user: what they lead to, whole or not at all, read once |
//! | [`discover`] | sysfs and debugfs |
//! | [`advice`] | what to do about what cannot be done |
//! | [`device`] | an open device: states, data file, log, regions, DMA memory |
//! | [`signals`] | how a command is asked to end |
//! | [`session`] | walking a device through its states and back |
//! | [`mirror`] | being the VMM of a virtio-net function: queues, memory, rounds, comparison |
//! | [`drive`] | the calls one by one, from lines of JSON |
//! | [`check`] | the conformance suite: cases, runner, report |
//! | [`fuzz`] | random sequences of calls, damaged streams, crowds |
//! | [`cmd`] | the commands: one function each, from arguments to a [`output::Report`] |
//!
//! A command is a struct of arguments and a function that answers with something printable for
//! people and for programs.

pub mod advice;
pub mod bitmap;
pub mod check;
pub mod cli;
pub mod cmd;
pub mod device;
pub mod discover;
pub mod drive;
pub mod fuzz;
pub mod image;
pub mod infile;
pub mod mirror;
pub mod node;
pub mod noiommu;
pub mod outfile;
pub mod output;
pub mod range;
pub mod session;
pub mod signals;
pub mod state;
pub mod sys;
