// SPDX-License-Identifier: Apache-2.0 OR MIT

//! Where the records of a stream begin and end.
//!
//! To the user a stream is opaque. Framings that are known are taken apart, so that tests hit the
//! places where parsers err; of all others only what single reads gave is known.

use std::ops::Range;

/// Bytes of a DLR section's header, `struct dlr_section`.
const DLR_HEADER: usize = 32;
/// `DLR_SECTION_MAGIC`.
const DLR_MAGIC: u32 = 0x5352_4c44;
/// Bytes of the header of `mlx5` and `virtio` records: le64 size, le32 flags, le32 tag.
const TAGGED_HEADER: usize = 16;
/// Tags above this are none that these drivers have.
const TAG_LIMIT: u32 = 32;

/// How a stream is framed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// Sections of the DLR contract, with sequence numbers and checksums.
    Dlr,
    /// Records with size, flags and tag, as of the kernel's `mlx5` and `virtio` drivers.
    Tagged,
    /// Unknown: a record is what one read() gave.
    Reads,
}

/// One record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    /// Offset in the stream.
    pub start: usize,
    /// Bytes of its header; 0 when unknown.
    pub header: usize,
    /// Offset of the byte after it.
    pub end: usize,
}

impl Record {
    /// The bytes that it takes.
    pub fn range(&self) -> Range<usize> {
        self.start..self.end
    }
}

/// A stream, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    /// How it is framed.
    pub framing: Framing,
    /// Its records; together they are the stream.
    pub records: Vec<Record>,
}

/// u32 at `at`, little-endian.
pub(super) fn le32(bytes: &[u8], at: usize) -> Option<u32> {
    let word = bytes.get(at..at.checked_add(4)?)?;
    Some(u32::from_le_bytes(word.try_into().ok()?))
}

fn le64(bytes: &[u8], at: usize) -> Option<u64> {
    let word = bytes.get(at..at.checked_add(8)?)?;
    Some(u64::from_le_bytes(word.try_into().ok()?))
}

/// Splits with the help of `payload`, which answers with the bytes that follow the header at an
/// offset. `None` when the records are not the stream.
fn split(
    stream: &[u8],
    header: usize,
    payload: impl Fn(usize) -> Option<usize>,
) -> Option<Vec<Record>> {
    let (mut records, mut start) = (Vec::new(), 0);
    while start < stream.len() {
        let end = start.checked_add(header)?.checked_add(payload(start)?)?;
        if end > stream.len() {
            return None;
        }
        records.push(Record { start, header, end });
        start = end;
    }
    (!records.is_empty()).then_some(records)
}

impl Layout {
    /// Of a stream that single reads gave in pieces of `reads` bytes.
    pub fn new(stream: &[u8], reads: &[usize]) -> Self {
        let dlr = |at| {
            let ours = le32(stream, at)? == DLR_MAGIC;
            ours.then_some(le32(stream, at + 16)? as usize)
        };
        let tagged = |at| {
            let (size, flags) = (le64(stream, at)?, le32(stream, at + 8)?);
            let known = flags <= 1 && le32(stream, at + 12)? < TAG_LIMIT && size != 0;
            known.then_some(usize::try_from(size).ok()?)
        };
        if let Some(records) = split(stream, DLR_HEADER, dlr) {
            let framing = Framing::Dlr;
            return Self { framing, records };
        }
        if let Some(records) = split(stream, TAGGED_HEADER, tagged) {
            let framing = Framing::Tagged;
            return Self { framing, records };
        }
        let mut start = 0;
        let read = |bytes: &usize| {
            let record = Record {
                start,
                header: 0,
                end: start + bytes,
            };
            start = record.end;
            record
        };
        Self {
            framing: Framing::Reads,
            records: reads.iter().map(read).collect(),
        }
    }

    /// Offsets, upwards and without 0 and the end, where a cut is likely to hurt: ends of headers
    /// and records, and one byte around them.
    pub fn cuts(&self) -> Vec<usize> {
        let whole = self.records.last().map_or(0, |record| record.end);
        let edge = |record: &Record| [record.start, record.start + record.header, record.end];
        let mut cuts: Vec<usize> = self
            .records
            .iter()
            .flat_map(edge)
            .flat_map(|at| [at.saturating_sub(1), at, at + 1])
            .filter(|at| (1..whole).contains(at))
            .collect();
        cuts.sort_unstable();
        cuts.dedup();
        cuts
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A DLR stream of sections with these payloads: (type, bytes).
    pub(crate) fn dlr(sections: &[(u16, &[u8])]) -> Vec<u8> {
        let mut stream = Vec::new();
        for (seq, (kind, payload)) in sections.iter().enumerate() {
            let mut head = DLR_MAGIC.to_le_bytes().to_vec();
            head.extend(kind.to_le_bytes());
            head.extend(1u16.to_le_bytes());
            for word in [
                0,
                seq as u32,
                payload.len() as u32,
                0,
                crc32c::crc32c(payload),
            ] {
                head.extend(word.to_le_bytes());
            }
            let crc = crc32c::crc32c(&head);
            head.extend(crc.to_le_bytes());
            stream.extend(head);
            stream.extend(*payload);
        }
        stream
    }

    #[test]
    fn sections_are_found() {
        let stream = dlr(&[(1, &[1; 32]), (0x100, &[2; 8]), (2, &[3; 16])]);
        let layout = Layout::new(&stream, &[stream.len()]);
        assert_eq!(layout.framing, Framing::Dlr);
        let starts: Vec<_> = layout.records.iter().map(|r| r.start).collect();
        assert_eq!(starts, [0, 64, 104]);
        assert_eq!(layout.records.last().unwrap().end, stream.len());
        assert_eq!(layout.cuts()[..6], [1, 31, 32, 33, 63, 64]);
    }

    #[test]
    fn tagged_records_are_found() {
        let mut stream = Vec::new();
        for size in [5u64, 300] {
            stream.extend(size.to_le_bytes());
            stream.extend([0, 0, 0, 0, 1, 0, 0, 0]);
            stream.extend(vec![9; size as usize]);
        }
        let layout = Layout::new(&stream, &[stream.len()]);
        assert_eq!(layout.framing, Framing::Tagged);
        assert_eq!(layout.records.len(), 2);
    }

    #[test]
    fn of_other_streams_only_the_reads_are_known() {
        let mut cut = dlr(&[(1, &[1; 32])]);
        cut.pop();
        let layout = Layout::new(&cut, &[10, 53]);
        assert_eq!(layout.framing, Framing::Reads);
        assert_eq!(layout.records[1].range(), 10..63);
        assert_eq!(layout.cuts(), [1, 9, 10, 11, 62]);
        assert!(Layout::new(&[], &[]).cuts().is_empty());
        assert_eq!(Layout::new(&[0; 64], &[64]).framing, Framing::Reads);
    }
}
