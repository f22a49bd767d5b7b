// SPDX-License-Identifier: GPL-2.0

//! State of a data function that debugfs shows.

use super::{
    engine::DlrEngine,
    tracker::Logging, //
};
use crate::vfio::{
    dirty::ring::tracker::RingShared,
    migration::view::View, //
};
use kernel::sync::Arc;

/// Log and migration of a function, for readers that do not hold their locks.
pub(super) struct Shared {
    /// Log of the function.
    pub(super) logging: Arc<Logging>,
    /// State that all log rings of the function share.
    pub(super) rings: Arc<RingShared>,
    /// Migration state and session.
    pub(super) migration: Arc<View<DlrEngine>>,
}
