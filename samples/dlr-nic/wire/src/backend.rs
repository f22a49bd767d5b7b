// SPDX-License-Identifier: Apache-2.0 OR MIT

//! What the switch wants of a back end.

use std::{
    fmt::Debug,
    time::{Duration, Instant},
};

use dlr_core::Delivery;
use serde_json::Value;

/// The way of a frame from the back end into the segment.
pub(crate) type Deliver<'a> = dyn FnMut(&[u8]) -> Delivery + 'a;

/// The other side of the wire. All calls come from the wire's thread.
pub(crate) trait Backend: Debug + Send {
    /// Takes a frame that a data function sent and that is not for another one.
    fn frame(&mut self, frame: &[u8]);

    /// Takes a frame that came in from outside and is for this back end alone: true.
    fn inbound(&mut self, _frame: &[u8]) -> bool {
        false
    }

    /// Does what is due and hands frames to `deliver`. Returns after how long to be called
    /// again at the latest, `None` for "when a frame comes".
    fn poll(&mut self, now: Instant, deliver: &mut Deliver<'_>) -> Option<Duration>;

    /// Counters.
    fn stats(&self) -> Value;

    /// Carries out a control request other than `stats`.
    ///
    /// # Errors
    ///
    /// A text for the user: unknown request, bad arguments.
    fn control(&mut self, request: Value) -> Result<Value, String>;
}
