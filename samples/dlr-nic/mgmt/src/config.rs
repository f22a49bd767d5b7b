// SPDX-License-Identifier: Apache-2.0 OR MIT

//! What a NIC is made of.

use std::time::Duration;

/// What a data function is given.
#[derive(Clone, Debug, Default)]
pub struct FunctionConfig {
    /// Bytes of the flow table, at most 64 MiB.
    pub flow_table: u64,
    /// Streams of state are exchangeable between functions with this id
    /// (`dlr_identify_fn.compat`): it has to differ where an image of the personality of one does
    /// not fit into the other.
    pub compat: [u8; 16],
    /// Abilities that it does without (`DLR_FN_CAP_*`).
    pub without: u32,
    /// Address bits of its log, 32 to 52; all of them by default.
    pub iova_bits: Option<u32>,
}

/// What a NIC is made of.
#[derive(Clone, Debug)]
pub struct Config {
    /// Serial number, in the registers and in every DVSEC.
    pub serial: u64,
    /// Longest time of any admin command.
    pub cmd_timeout: Duration,
    /// MSI-X vectors of the management function.
    pub vectors: u16,
    /// At most 31 bytes of UTF-8.
    pub model: String,
    /// At most 15 bytes of UTF-8.
    pub firmware: String,
    /// The data functions, 1..=`DLR_MAX_FUNCTIONS`.
    pub functions: Vec<FunctionConfig>,
}
