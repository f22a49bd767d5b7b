// SPDX-License-Identifier: Apache-2.0 OR MIT

//! Sizes and IOVA ranges as people write them.

use std::{fmt, str::FromStr};

use serde::Serialize;

/// A number of bytes: `4096`, `0x1000`, `4K`, `64M`, `1G`, `2T`.
///
/// # Errors
///
/// A sentence that says what is wrong with `s`.
pub fn parse_size(s: &str) -> Result<u64, String> {
    let lower = s.trim().to_ascii_lowercase();
    let (hex, rest) = match lower.strip_prefix("0x") {
        Some(rest) => (true, rest),
        None => (false, lower.as_str()),
    };
    let rest = rest.strip_suffix("ib").unwrap_or(rest);
    let (digits, shift) = match rest.as_bytes().last() {
        Some(b'k') => (&rest[..rest.len() - 1], 10),
        Some(b'm') => (&rest[..rest.len() - 1], 20),
        Some(b'g') => (&rest[..rest.len() - 1], 30),
        Some(b't') => (&rest[..rest.len() - 1], 40),
        _ => (rest, 0),
    };
    let n = u64::from_str_radix(digits, if hex { 16 } else { 10 })
        .map_err(|_| format!("`{s}` is not a size; write for example 4096, 0x1000, 64M or 1G"))?;
    n.checked_mul(1 << shift)
        .ok_or_else(|| format!("`{s}` does not fit into 64 bits"))
}

/// Bytes of a page: a power of two.
///
/// # Errors
///
/// A sentence that says what is wrong with `s`.
pub fn parse_page_size(s: &str) -> Result<u64, String> {
    match parse_size(s)? {
        bytes if bytes.is_power_of_two() => Ok(bytes),
        bytes => Err(format!("{bytes} bytes are no power of two, as a page has")),
    }
}

/// Would the kernel take these ranges for a log with pages of `page_size` bytes?
///
/// # Errors
///
/// A sentence that says which range is wrong, and how.
pub fn check_loggable(ranges: &[IovaRange], page_size: u64) -> Result<(), String> {
    for range in ranges {
        if range.iova % page_size != 0 || range.length % page_size != 0 {
            return Err(format!(
                "range {range} does not begin and end at multiples of the page size ({page_size} \
                 bytes)"
            ));
        }
    }
    let mut sorted = ranges.to_vec();
    sorted.sort_by_key(|range| range.iova);
    for pair in sorted.windows(2) {
        if pair[0].iova + pair[0].length > pair[1].iova {
            return Err(format!("ranges {} and {} overlap", pair[0], pair[1]));
        }
    }
    Ok(())
}

/// Part of an IOVA space: `START-END` (end not included) or `START+LENGTH`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct IovaRange {
    /// First byte.
    pub iova: u64,
    /// Bytes, never 0; `iova + length` does not wrap.
    pub length: u64,
}

impl FromStr for IovaRange {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, String> {
        let range = if let Some((iova, length)) = s.split_once('+') {
            Self {
                iova: parse_size(iova)?,
                length: parse_size(length)?,
            }
        } else if let Some((iova, end)) = s.split_once('-') {
            let (iova, end) = (parse_size(iova)?, parse_size(end)?);
            let length = end
                .checked_sub(iova)
                .ok_or_else(|| format!("range `{s}` ends before it starts"))?;
            Self { iova, length }
        } else {
            return Err(format!(
                "`{s}` is not a range; write START-END or START+LENGTH"
            ));
        };
        if range.length == 0 {
            return Err(format!("range `{s}` is empty"));
        }
        if range.iova.checked_add(range.length).is_none() {
            return Err(format!("range `{s}` goes beyond 64 bits"));
        }
        Ok(range)
    }
}

impl fmt::Display for IovaRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}-{:#x}", self.iova, self.iova + self.length)
    }
}

/// Bytes for people: `1.5 MiB`.
pub fn human_size(bytes: u64) -> String {
    indicatif::BinaryBytes(bytes).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        for (s, n) in [
            ("0", 0),
            ("4096", 4096),
            ("0x1000", 4096),
            ("4k", 4096),
            ("64M", 64 << 20),
            ("64MiB", 64 << 20),
            ("1G", 1 << 30),
            ("0x10G", 16 << 30),
        ] {
            assert_eq!(parse_size(s), Ok(n), "{s}");
        }
        for s in ["", "k", "x", "-1", "1.5G", "16777216T", "0x"] {
            assert!(parse_size(s).is_err(), "{s}");
        }
    }

    #[test]
    fn ranges() {
        let r = |iova, length| Ok(IovaRange { iova, length });
        assert_eq!("0-1G".parse(), r(0, 1 << 30));
        assert_eq!("0x1000+4K".parse(), r(4096, 4096));
        assert_eq!("4G-5G".parse(), r(4 << 30, 1 << 30));
        for s in ["", "5", "2-1", "1-1", "0xffffffffffffffff+2", "a-b"] {
            assert!(s.parse::<IovaRange>().is_err(), "{s}");
        }
    }

    #[test]
    fn what_is_shown_can_be_read_back() {
        let range = IovaRange {
            iova: 0x1000,
            length: 0x3000,
        };
        assert_eq!(range.to_string().parse(), Ok(range));
    }

    #[test]
    fn page_sizes_are_powers_of_two() {
        assert_eq!(parse_page_size("64K"), Ok(65536));
        for s in ["3K", "0", "4097"] {
            let why = parse_page_size(s).expect_err(s);
            assert!(why.contains("no power of two"), "{why}");
        }
        assert!(parse_page_size("x").is_err());
    }

    #[test]
    fn ranges_that_cannot_be_logged_are_named() {
        let check = |text: &str, page_size| {
            let ranges: Vec<IovaRange> = text.split(',').map(|r| r.parse().expect(r)).collect();
            check_loggable(&ranges, page_size)
        };
        assert_eq!(check("1M+1M,0-1M,4M+64K", 65536), Ok(()));
        let why = check("0+1M,2M+4K", 65536).expect_err("unaligned");
        assert!(why.contains("0x200000-0x201000"), "{why}");
        let why = check("6K+8K", 4096).expect_err("unaligned");
        assert!(why.contains("multiples"), "{why}");
        let why = check("2M+1M,0+1M,1020K+8K", 4096).expect_err("overlap");
        assert!(
            why.contains("0x0-0x100000 and 0xff000-0x101000 overlap"),
            "{why}"
        );
    }
}
