// SPDX-License-Identifier: Apache-2.0 OR MIT

//! The lines that come in to `drive`: one JSON object each. Pure.

use serde::{Deserialize, Deserializer};
use serde_json::Value;

use crate::{range::IovaRange, state::State};

/// A state by its name, or any number, to ask for what does not exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub enum Target {
    /// `"STOP_COPY"`.
    Named(State),
    /// 9.
    Number(u32),
}

impl Target {
    /// As the uAPI has it.
    pub fn number(self) -> u32 {
        match self {
            Self::Named(state) => state as u32,
            Self::Number(number) => number,
        }
    }
}

/// What a write to the data file is made of.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Source {
    /// Bytes as hexadecimal digits.
    Hex(String),
    /// What a `read` has saved under this name.
    Saved(String),
}

/// One call.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(tag = "cmd", rename_all = "kebab-case")]
pub enum Call {
    /// Opens the device.
    Open,
    /// Closes the device file; data files stay.
    Close,
    /// Whether the device is open, data files, saved images.
    Status,
    /// Migration flags of the device, as a number.
    Flags,
    /// Asks for the state.
    Get,
    /// Requests a state.
    Set {
        /// Which.
        state: Target,
        /// On the device file of another `drive`: its process, and the number of the file there.
        of: Option<(i32, i32)>,
    },
    /// Reads from a data file until `bytes` are there, it ends or fails.
    Read {
        /// How many; without it to the end.
        bytes: Option<usize>,
        /// Length of one read(2).
        #[serde(default = "piece")]
        piece: usize,
        /// Adds the bytes to a saved image of this name.
        save: Option<String>,
        /// Number of the file; the latest without.
        file: Option<usize>,
    },
    /// Waits with poll(2) until a data file is readable, or has ended.
    Poll {
        /// How long.
        #[serde(default = "patience")]
        timeout_ms: u64,
        /// Number of the file; the latest without.
        file: Option<usize>,
    },
    /// Reads a data file to its end as an event loop does: non-blocking reads, and poll(2) when
    /// there is nothing just now.
    PollRead {
        /// Length of one read(2).
        #[serde(default = "piece")]
        piece: usize,
        /// Number of the file; the latest without.
        file: Option<usize>,
    },
    /// Writes to a data file.
    Write {
        /// What.
        #[serde(flatten)]
        source: Source,
        /// First byte of the source to write.
        #[serde(default)]
        from: usize,
        /// How many; all that follow without it.
        bytes: Option<usize>,
        /// Length of one write(2).
        #[serde(default = "piece")]
        piece: usize,
        /// Number of the file; the latest without.
        file: Option<usize>,
    },
    /// Closes a data file.
    Forget {
        /// Number of the file; the latest without.
        file: Option<usize>,
    },
    /// Asks for version 2 of the precopy ioctl.
    PrecopyV2,
    /// The precopy ioctl.
    Precopy {
        /// Number of the file; the latest without.
        file: Option<usize>,
    },
    /// `VFIO_DEVICE_FEATURE_MIG_DATA_SIZE`.
    Size,
    /// Starts the DMA log.
    LogStart {
        /// Granule to ask for.
        #[serde(default = "granule")]
        page_size: u64,
        /// `START+LENGTH` or `START-END` each.
        #[serde(deserialize_with = "ranges")]
        ranges: Vec<IovaRange>,
    },
    /// Asks which pages were written.
    Report {
        /// `START+LENGTH` or `START-END`.
        #[serde(deserialize_with = "range")]
        range: IovaRange,
        /// Granule of the answer.
        #[serde(default = "granule")]
        page_size: u64,
        /// The bitmap's pages are not there before `release`.
        #[serde(default)]
        held: bool,
        /// On the device file of another `drive`: its process, and the number of the file there.
        of: Option<(i32, i32)>,
    },
    /// Asks about one page after the other.
    ReportPages {
        /// Their numbers.
        pages: Vec<u64>,
        /// Size of a page.
        #[serde(default = "granule")]
        page_size: u64,
    },
    /// Lets the pages of all held bitmaps in.
    Release,
    /// Stops the DMA log.
    LogStop {
        /// As for `report`.
        of: Option<(i32, i32)>,
    },
    /// `VFIO_DEVICE_RESET`.
    Reset,
    /// Reads from a region, with one pread(2).
    RegionRead {
        /// Index of the region; BARs are 0 to 5.
        region: u32,
        /// First byte.
        offset: u64,
        /// How many. The answer has a checksum, and up to a page also the bytes.
        bytes: usize,
    },
    /// Writes to a region, with one pwrite(2).
    RegionWrite {
        /// Index of the region.
        region: u32,
        /// First byte.
        offset: u64,
        /// What, as hexadecimal digits.
        hex: String,
    },
    /// Writes a pattern to a region, with one pwrite(2).
    RegionFill {
        /// Index of the region.
        region: u32,
        /// First byte.
        offset: u64,
        /// How many.
        bytes: usize,
        /// Which pattern.
        seed: u32,
    },
    /// Size and flags of a region.
    RegionInfo {
        /// Index of the region.
        region: u32,
    },
    /// Exports a part of a region as a dma-buf, and closes that.
    DmaBuf {
        /// Index of the region.
        region: u32,
        /// First byte.
        #[serde(default)]
        offset: u64,
        /// How many.
        bytes: u64,
    },
    /// Maps fresh memory for DMA of the device, until it is closed.
    Map {
        /// Where the device finds it.
        iova: u64,
        /// How many bytes.
        bytes: usize,
        /// Which pattern is in it.
        #[serde(default)]
        seed: u32,
    },
    /// Reads from memory that `map` has made.
    Memory {
        /// First byte, as the device finds it.
        iova: u64,
        /// How many.
        bytes: usize,
    },
    /// The answer of a job that was started with `"async": true`.
    Wait {
        /// Which.
        job: u64,
        /// How long to wait for it.
        #[serde(default = "patience")]
        timeout_ms: u64,
    },
    /// Ends the program.
    Quit,
}

/// One line in.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Request {
    /// Comes back with the answer.
    pub id: Option<Value>,
    /// Answer at once with the number of a job.
    #[serde(default, rename = "async")]
    pub detached: bool,
    /// This allocation of the kernel in the call fails, counted from 1.
    pub fail_nth: Option<u32>,
    /// What to do.
    #[serde(flatten)]
    pub call: Call,
}

fn piece() -> usize {
    1 << 20
}

fn granule() -> u64 {
    4096
}

fn patience() -> u64 {
    60_000
}

fn range<'de, D: Deserializer<'de>>(from: D) -> Result<IovaRange, D::Error> {
    let text = String::deserialize(from)?;
    text.parse().map_err(serde::de::Error::custom)
}

fn ranges<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<IovaRange>, D::Error> {
    let texts = Vec::<String>::deserialize(from)?;
    let parsed = texts.iter().map(|text| text.parse());
    parsed
        .collect::<Result<_, _>>()
        .map_err(serde::de::Error::custom)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Request {
        serde_json::from_str(line).unwrap_or_else(|e| panic!("{line}: {e}"))
    }

    #[test]
    fn requests_parse() {
        for line in [
            r#"{"cmd":"open"}"#,
            r#"{"cmd":"set","state":"STOP_COPY","async":true,"id":7}"#,
            r#"{"cmd":"set","state":9,"of":[12,7]}"#,
            r#"{"cmd":"report","range":"0+4K","fail_nth":3}"#,
            r#"{"cmd":"read"}"#,
            r#"{"cmd":"poll","timeout_ms":5}"#,
            r#"{"cmd":"poll-read","piece":4096,"file":0}"#,
            r#"{"cmd":"read","bytes":10,"piece":1,"save":"a","file":0}"#,
            r#"{"cmd":"write","hex":"00ff"}"#,
            r#"{"cmd":"write","saved":"a","from":3,"bytes":4}"#,
            r#"{"cmd":"log-start","ranges":["0+1G","4G-5G"]}"#,
            r#"{"cmd":"report","range":"0+4K"}"#,
            r#"{"cmd":"report","range":"0+4K","held":true,"of":[12,7]}"#,
            r#"{"cmd":"report-pages","pages":[1,5]}"#,
            r#"{"cmd":"release"}"#,
            r#"{"cmd":"dma-buf","region":0,"bytes":4096}"#,
            r#"{"cmd":"wait","job":1,"timeout_ms":5}"#,
        ] {
            parse(line);
        }
        let set = parse(r#"{"cmd":"set","state":"RUNNING_P2P","async":true,"id":"x"}"#);
        assert!(set.detached);
        assert_eq!(set.id, Some("x".into()));
        let Call::Set { state, of: None } = set.call else {
            panic!("{set:?}")
        };
        assert_eq!(state.number(), 5);
        for line in [
            r#"{"cmd":"set","state":"STOPPED"}"#,
            r#"{"cmd":"report","range":"x"}"#,
            r#"{"cmd":"fly"}"#,
            r#"{}"#,
        ] {
            assert!(serde_json::from_str::<Request>(line).is_err(), "{line}");
        }
    }
}
