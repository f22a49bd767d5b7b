// SPDX-License-Identifier: Apache-2.0 OR MIT

//! What the parts in boxes have in common.

use crate::{
    artefacts::{Artefacts, Workshop},
    bench::native::Extent,
};

/// What is measured, and how much.
pub(super) struct Bench {
    pub(super) workshop: Workshop,
    pub(super) artefacts: Artefacts,
    pub(super) extent: Extent,
}

impl Bench {
    /// `full` of something, or what shows that it works.
    pub(super) fn extent<T>(&self, full: T, short: T) -> T {
        match self.extent {
            Extent::Full => full,
            Extent::Short => short,
        }
    }
}
