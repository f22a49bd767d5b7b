// SPDX-License-Identifier: Apache-2.0 OR MIT

//! Counters of a function.

/// Since the process started; they do not travel with the guest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Stats {
    pub(crate) rx_frames: u64,
    pub(crate) rx_bytes: u64,
    /// Offered while the guest had no buffer.
    pub(crate) rx_no_buffer: u64,
    /// Offered while no driver was ready, or the function did not run.
    pub(crate) rx_no_driver: u64,
    /// Offered while the dirty log had no room.
    pub(crate) rx_held: u64,
    /// Not for this guest, or no link.
    pub(crate) rx_filtered: u64,
    /// Cannot fit in the guest's buffers.
    pub(crate) rx_too_long: u64,
    pub(crate) tx_frames: u64,
    pub(crate) tx_bytes: u64,
    /// Malformed frames, and frames sent without link.
    pub(crate) tx_dropped: u64,
    pub(crate) ctrl_commands: u64,
    pub(crate) interrupts: u64,
    pub(crate) doorbells: u64,
    pub(crate) dma_faults: u64,
    /// Times the driver broke the rules and has to reset.
    pub(crate) needs_reset: u64,
    pub(crate) resets: u64,
}

impl Stats {
    /// As a JSON object.
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::json!({
            "rx_frames": self.rx_frames,
            "rx_bytes": self.rx_bytes,
            "rx_no_buffer": self.rx_no_buffer,
            "rx_no_driver": self.rx_no_driver,
            "rx_held": self.rx_held,
            "rx_filtered": self.rx_filtered,
            "rx_too_long": self.rx_too_long,
            "tx_frames": self.tx_frames,
            "tx_bytes": self.tx_bytes,
            "tx_dropped": self.tx_dropped,
            "ctrl_commands": self.ctrl_commands,
            "interrupts": self.interrupts,
            "doorbells": self.doorbells,
            "dma_faults": self.dma_faults,
            "needs_reset": self.needs_reset,
            "resets": self.resets,
        })
    }
}
