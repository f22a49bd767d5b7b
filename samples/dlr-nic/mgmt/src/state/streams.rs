// SPDX-License-Identifier: Apache-2.0 OR MIT

//! Streams without a management function, for those who make streams up.

use std::sync::Arc;

use dlr_abi::abi;
use dlr_core::{DataFunction, FlowSink, LoadError, Sabotage};

use super::{flow::FlowTable, load::LoadSession, save::SaveSession};

/// Bytes of one read.
const READ: usize = 1 << 20;

/// Saves and loads the state of a stopped function as the sessions of a management function do. It has
/// the function's flow table.
#[derive(Debug)]
pub struct Streams {
    compat: [u8; 16],
    flow: Arc<FlowTable>,
}

impl Streams {
    /// For a function with this compatibility id and an empty flow table of so many bytes.
    pub fn new(compat: [u8; 16], flow_table: u64) -> Self {
        Self {
            compat,
            flow: Arc::new(FlowTable::new(flow_table, Arc::default())),
        }
    }

    /// What sees the frames of the function.
    pub fn flow(&self) -> Arc<dyn FlowSink> {
        self.flow.clone()
    }

    /// Loads a stream, in these pieces.
    ///
    /// # Errors
    ///
    /// The stream is refused, and nothing was installed.
    pub fn load<'a>(
        &self,
        pieces: impl IntoIterator<Item = &'a [u8]>,
        function: &dyn DataFunction,
    ) -> Result<(), LoadError> {
        let mut session = LoadSession::new(self.compat, self.flow.clone());
        let refused = |status| LoadError::Corrupt(format!("{status:?}"));
        for piece in pieces {
            session.write(piece).map_err(refused)?;
        }
        session.commit(function).map_err(refused)
    }

    /// The whole stream.
    pub fn save(&self, function: &dyn DataFunction) -> Vec<u8> {
        let mut session = SaveSession::new(self.compat, self.flow.clone(), None);
        let mut stream = Vec::new();
        // The session refuses nothing: the function is not resumed meanwhile.
        while let Ok((data, done)) = session.read_final(READ, function, 0, &Sabotage::default()) {
            stream.extend(data);
            if done.flags & abi::DLR_CQE_F_END != 0 {
                break;
            }
        }
        stream
    }
}
