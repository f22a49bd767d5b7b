// SPDX-License-Identifier: Apache-2.0 OR MIT

//! What layers and parts are called on the command line.

use dlr_testing::{bench::Part, layers::Layer};

/// A layer on the command line.
#[derive(Clone, Copy, clap::ValueEnum)]
pub(crate) enum LayerName {
    Style,
    Host,
    Module,
    Native,
    /// The whole driver on functions of the NIC, natively
    Whole,
    Bench,
    NativeDebug,
    Upstream,
    Kunit,
    /// A part of the tests on a kernel that checks itself
    Debug,
    Boxes,
}

impl From<LayerName> for Layer {
    fn from(name: LayerName) -> Self {
        match name {
            LayerName::Style => Self::Style,
            LayerName::Host => Self::Host,
            LayerName::Module => Self::Module,
            LayerName::Native => Self::Native,
            LayerName::Whole => Self::Whole,
            LayerName::Bench => Self::Bench,
            LayerName::NativeDebug => Self::NativeDebug,
            LayerName::Upstream => Self::Upstream,
            LayerName::Kunit => Self::Kunit,
            LayerName::Debug => Self::Debug,
            LayerName::Boxes => Self::Boxes,
        }
    }
}

/// A part of the benchmark on the command line.
#[derive(Clone, Copy, clap::ValueEnum)]
pub(crate) enum PartName {
    Native,
    Idle,
    Stream,
    Nic,
    Overflow,
    Downtime,
    PerNic,
}

impl From<PartName> for Part {
    fn from(name: PartName) -> Self {
        match name {
            PartName::Native => Self::Native,
            PartName::Idle => Self::Idle,
            PartName::Stream => Self::Stream,
            PartName::Nic => Self::Nic,
            PartName::Overflow => Self::Overflow,
            PartName::Downtime => Self::Downtime,
            PartName::PerNic => Self::PerNic,
        }
    }
}
