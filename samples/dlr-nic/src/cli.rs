// SPDX-License-Identifier: Apache-2.0 OR MIT

//! The command line.

use std::{
    hash::{BuildHasher, BuildHasherDefault, DefaultHasher},
    path::{Path, PathBuf},
    time::Duration,
};

use clap::{Parser, ValueEnum};
use dlr_abi::abi;
use dlr_core::SabotageKind;
use dlr_net::QueueSize;
use dlr_wire::WireConfig;

/// Reference NIC of the DLR contract.
///
/// Serves one management function and N data functions (modern virtio-net) over vfio-user.
/// Connect QEMU with, for each function in a slot of its own:
///
///   -device '{"driver":"vfio-user-pci","socket":{"type":"unix","path":"DIR/mf.sock"}}'
///
/// Prints `ready` when all sockets listen. RUST_LOG sets the verbosity (default: info).
#[derive(Clone, Debug, Parser)]
#[command(name = "dlr-nic", version, verbatim_doc_comment)]
pub(crate) struct Args {
    /// Folder for mf.sock, df0.sock, df1.sock, … and control.sock
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: PathBuf,

    /// Number of data functions
    #[arg(long, value_name = "N", default_value_t = 2,
          value_parser = clap::value_parser!(u8).range(1..=64))]
    pub(crate) functions: u8,

    /// Serial number, hexadecimal [default: made from DIR]
    #[arg(long, value_name = "HEX", value_parser = hex)]
    pub(crate) serial: Option<u64>,

    /// Bytes of each function's flow table (K and M understood), at most 64M
    #[arg(long, value_name = "SIZE", default_value = "4M", value_parser = size)]
    pub(crate) flow_table: u64,

    /// Entries of each queue of a data function, a power of two, at most 1024. The state of a
    /// function can be loaded only on a NIC with the same number
    #[arg(long, value_name = "N", default_value_t)]
    pub(crate) queue_size: QueueSize,

    /// What the functions are plugged into: none, peer[:ADDRESS/PREFIX,…], link:PATH,
    /// peer+link:PATH, tap:NAME
    #[arg(long, value_name = "WIRE", default_value = "peer")]
    pub(crate) wire: WireConfig,

    /// MAC address of function 0; function K has it plus K
    #[arg(long, value_name = "MAC", default_value = "02:d1:72:01:00:00", value_parser = mac)]
    pub(crate) mac_base: [u8; 6],

    /// Longest time of an admin command, milliseconds
    #[arg(long, value_name = "MS", default_value_t = 10_000)]
    pub(crate) cmd_timeout: u32,

    /// Leave out an ability, of function K only if that is given; may be repeated. ABILITY is one of
    /// log, state, p2p, precopy, status-page, hold
    #[arg(long, value_name = "ABILITY[@K]", value_parser = without)]
    pub(crate) without: Vec<Without>,

    /// Address bits of the logs: a log tracks nothing at or above two to the power of N
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(32..=52))]
    pub(crate) iova_bits: Option<u32>,

    /// Take client memory whose file is not sealed against shrinking (memory-backend-file) or made of
    /// huge pages: a client that truncates it, or takes a page out, ends this process
    #[arg(long)]
    pub(crate) unsealed_memory: bool,

    /// As if the management function were a PF and the data functions its VFs: a function-level
    /// reset of the former clears VF Enable and takes the latter away
    #[arg(long)]
    pub(crate) sriov_like: bool,

    /// How functions are served: vfio-user to QEMU, or vhost-user to user-mode Linux
    /// (virtio_uml.device=DIR/mf.sock:ID), where data functions have a BAR in place of an IOMMU
    #[arg(long, value_enum, default_value_t = Transport::VfioUser)]
    pub(crate) transport: Transport,

    /// Break a rule; may be repeated. KIND is one of drop-log-entry, entry-before-data,
    /// filter-not-cleared, marker-too-early, lost-not-posted, suspend-early,
    /// state-bit-flip, state-truncated, posted-not-flushed, entry-after-suspend, not-rearmed,
    /// reset-ends-log, add-not-tracked, start-too-early, run-too-short, drop-used-ring,
    /// drop-control, drop-event, state-stale, stray-write, attest-hidden, attest-foreign
    #[arg(long, value_name = "KIND=N", value_parser = sabotage)]
    pub(crate) sabotage: Vec<(SabotageKind, u64)>,
}

/// What the sockets speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Transport {
    VfioUser,
    VhostUser,
}

/// An ability that is left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Without {
    /// `DLR_FN_CAP_*`.
    cap: u32,
    /// Of this function, or of all.
    function: Option<u8>,
}

impl Args {
    /// A function that is named though there is none.
    pub(crate) fn stray_function(&self) -> Option<u8> {
        let mut named = self.without.iter().filter_map(|w| w.function);
        named.find(|&k| k >= self.functions)
    }

    /// The abilities (`DLR_FN_CAP_*`) that data function `k` does without.
    pub(crate) fn without(&self, k: u8) -> u32 {
        self.without
            .iter()
            .filter(|w| w.function.is_none_or(|only| only == k))
            .fold(0, |caps, w| caps | w.cap)
    }

    /// The serial number: as asked for, or one that differs from folder to folder.
    pub(crate) fn serial(&self) -> u64 {
        self.serial.unwrap_or_else(|| serial_of(&self.dir))
    }

    /// Longest time of an admin command.
    pub(crate) fn cmd_timeout(&self) -> Duration {
        Duration::from_millis(u64::from(self.cmd_timeout.max(1)))
    }

    /// MAC address of data function `k`.
    pub(crate) fn mac(&self, k: u8) -> [u8; 6] {
        let mut mac = self.mac_base;
        let mut carry = k;
        for byte in mac.iter_mut().rev() {
            let (sum, over) = byte.overflowing_add(carry);
            *byte = sum;
            carry = u8::from(over);
        }
        mac
    }
}

fn serial_of(dir: &Path) -> u64 {
    let dir = std::path::absolute(dir).unwrap_or_else(|_| dir.into());
    BuildHasherDefault::<DefaultHasher>::default().hash_one(dir)
}

fn hex(s: &str) -> Result<u64, String> {
    let digits = s.strip_prefix("0x").unwrap_or(s);
    u64::from_str_radix(digits, 16).map_err(|e| e.to_string())
}

fn size(s: &str) -> Result<u64, String> {
    let (digits, shift) = match s.as_bytes().last() {
        Some(b'K' | b'k') => (&s[..s.len() - 1], 10),
        Some(b'M' | b'm') => (&s[..s.len() - 1], 20),
        _ => (s, 0),
    };
    let bytes = digits
        .parse::<u64>()
        .map_err(|e| e.to_string())?
        .checked_mul(1 << shift)
        .filter(|&b| b <= 64 << 20)
        .ok_or("at most 64M")?;
    Ok(bytes)
}

/// An address of one station.
pub(crate) fn mac(s: &str) -> Result<[u8; 6], String> {
    let bytes: Vec<u8> = s
        .split(':')
        .map(|b| u8::from_str_radix(b, 16))
        .collect::<Result<_, _>>()
        .map_err(|e| e.to_string())?;
    match <[u8; 6]>::try_from(bytes) {
        Ok(mac) if mac[0] & 1 == 0 => Ok(mac),
        _ => Err("six bytes like 02:d1:72:01:00:00, not a group address".into()),
    }
}

fn without(s: &str) -> Result<Without, String> {
    let (ability, function) = match s.split_once('@') {
        Some((ability, k)) => {
            let k = k.parse::<u8>().map_err(|e| format!("function {k}: {e}"))?;
            (ability, Some(k))
        }
        None => (s, None),
    };
    let cap = ability_bit(ability)?;
    Ok(Without { cap, function })
}

/// `DLR_FN_CAP_*` by its name here.
pub(crate) fn ability_bit(name: &str) -> Result<u32, String> {
    Ok(match name {
        "log" => abi::DLR_FN_CAP_LOG,
        "state" => abi::DLR_FN_CAP_STATE,
        "p2p" => abi::DLR_FN_CAP_P2P,
        "precopy" => abi::DLR_FN_CAP_PRECOPY,
        "status-page" => abi::DLR_FN_CAP_STATUS_PAGE,
        "hold" => abi::DLR_FN_CAP_HOLD,
        _ => return Err("log, state, p2p, precopy, status-page or hold, and @K".into()),
    })
}

fn sabotage(s: &str) -> Result<(SabotageKind, u64), String> {
    let (kind, n) = s.split_once('=').ok_or("KIND=N")?;
    Ok((
        kind.parse()?,
        n.parse()
            .map_err(|e: std::num::ParseIntError| e.to_string())?,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_parses() {
        let args = Args::try_parse_from([
            "dlr-nic",
            "--dir",
            "/x",
            "--functions",
            "64",
            "--serial",
            "0xab",
            "--flow-table",
            "64M",
            "--sabotage",
            "drop-log-entry=3",
            "--without",
            "p2p",
            "--without",
            "log@3",
            "--iova-bits",
            "32",
            "--queue-size",
            "1024",
            "--mac-base",
            "02:00:00:00:00:ff",
        ])
        .unwrap();
        assert_eq!((args.serial(), args.flow_table), (0xab, 64 << 20));
        assert_eq!(args.iova_bits, Some(32));
        assert_eq!(args.queue_size.to_string(), "1024");
        assert_eq!(args.mac(1), [2, 0, 0, 0, 1, 0]);
        assert_eq!(args.sabotage, [(SabotageKind::DropLogEntry, 3)]);
        assert_eq!(args.without(2), abi::DLR_FN_CAP_P2P);
        assert_eq!(args.without(3), abi::DLR_FN_CAP_P2P | abi::DLR_FN_CAP_LOG);
        for wrong in [
            ["--without", "everything"],
            ["--without", "log@x"],
            ["--functions", "65"],
            ["--flow-table", "65M"],
            ["--iova-bits", "53"],
            ["--queue-size", "1000"],
            ["--queue-size", "2048"],
            ["--sabotage", "x=1"],
        ] {
            assert!(Args::try_parse_from(["dlr-nic", "--dir", "/x", wrong[0], wrong[1]]).is_err());
        }
    }

    #[test]
    fn functions_that_are_named_exist() {
        let parse = |without| {
            let words = [
                "dlr-nic",
                "--dir",
                "/x",
                "--functions",
                "2",
                "--without",
                without,
            ];
            Args::try_parse_from(words).unwrap().stray_function()
        };
        assert_eq!(parse("log"), None);
        assert_eq!(parse("log@1"), None);
        assert_eq!(parse("log@2"), Some(2));
    }

    #[test]
    fn serials_differ() {
        assert_ne!(serial_of(Path::new("/a")), serial_of(Path::new("/b")));
    }
}
