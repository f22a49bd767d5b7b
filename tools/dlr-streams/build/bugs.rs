// SPDX-License-Identifier: Apache-2.0 OR MIT

//! Bugs of one line in the driver's files, each of which the streams have to find
//! (`src/bug_checks.rs`).

use dlr_copies::Bug;

const PARSER: &str = "stream/mod.rs";

pub(super) const BUGS: &[Bug] = &[
    Bug {
        name: "the checksum of a header is not checked",
        path: PARSER,
        find: "header.header_crc != crc32c(covered)",
        with: "(header.header_crc != crc32c(covered) && !BUG)",
    },
    Bug {
        name: "the number of a section is not checked",
        path: PARSER,
        find: "header.seq != self.seq",
        with: "(header.seq != self.seq && !BUG)",
    },
    Bug {
        name: "the reserved word of a header is not checked",
        path: PARSER,
        find: "header.reserved != 0",
        with: "(header.reserved != 0 && !BUG)",
    },
    Bug {
        name: "any section may be the first one",
        path: PARSER,
        find: "if (self.seq == 0) != (u32::from(kind) == dlr::DLR_SECTION_HEADER) {",
        with: "if !BUG && (self.seq == 0) != (u32::from(kind) == dlr::DLR_SECTION_HEADER) {",
    },
    Bug {
        name: "a flag that is not defined counts as optional",
        path: PARSER,
        find: "header.flags == dlr::DLR_SECTION_F_OPTIONAL",
        with: "(header.flags & dlr::DLR_SECTION_F_OPTIONAL != 0 && (BUG || header.flags == 1))",
    },
    Bug {
        name: "a section of an unknown type is taken",
        path: PARSER,
        find: "|| !known(kind, header.version)",
        with: "|| (!known(kind, header.version) && !BUG)",
    },
    Bug {
        name: "a trailer may have any length",
        path: PARSER,
        find: "dlr::DLR_SECTION_TRAILER => Some(",
        with: "dlr::DLR_SECTION_TRAILER if !BUG => Some(",
    },
    Bug {
        name: "a section may be longer than the contract allows",
        path: PARSER,
        find: "if length > dlr::DLR_SECTION_MAX {",
        with: "if length > dlr::DLR_SECTION_MAX + u32::from(BUG) {",
    },
    Bug {
        name: "the limit of a stream leaves out a header",
        path: PARSER,
        find: "self.bytes.checked_add(HEADER_BYTES as u64)",
        with: "self.bytes.checked_add(if BUG { 0 } else { HEADER_BYTES as u64 })",
    },
    Bug {
        name: "the checksum of a payload is not checked",
        path: PARSER,
        find: "if payload_crc != section.payload_crc {",
        with: "if payload_crc != section.payload_crc && !BUG {",
    },
    Bug {
        name: "the checksum of a payload goes on from the section before",
        path: PARSER,
        find: "self.payload = Crc32c::new();",
        with: "if !BUG { self.payload = Crc32c::new(); }",
    },
    Bug {
        name: "the second piece of a payload is put where the first one is",
        path: PARSER,
        find: "room.fill(have, most,",
        with: "room.fill(if BUG { HEADER_BYTES } else { have }, most,",
    },
    Bug {
        name: "the trailer is not put into the room",
        path: PARSER,
        find: "room.put(HEADER_BYTES, own)?;",
        with: "if !BUG || u32::from(section.kind) == dlr::DLR_SECTION_HEADER { room.put(HEADER_BYTES, own)?; }",
    },
    Bug {
        name: "a stream of another model is taken",
        path: PARSER,
        find: "if header.compat != self.accepts.compat",
        with: "if (header.compat != self.accepts.compat && !BUG)",
    },
    Bug {
        name: "a stream of any version is taken",
        path: PARSER,
        find: "|| !versions.contains(&version)",
        with: "|| (!versions.contains(&version) && !BUG)",
    },
    Bug {
        name: "a stream of another contract is taken",
        path: PARSER,
        find: "let major = |v: u32| v >> 16;",
        with: "let major = |v: u32| v >> if BUG { 31 } else { 16 };",
    },
    Bug {
        name: "the number of sections is not checked",
        path: PARSER,
        find: "u32::from_le(trailer.sections) != self.seq",
        with: "(u32::from_le(trailer.sections) != self.seq && !BUG)",
    },
    Bug {
        name: "the checksum of the stream is not checked",
        path: PARSER,
        find: "u32::from_le(trailer.stream_crc) != self.crc.value()",
        with: "(u32::from_le(trailer.stream_crc) != self.crc.value() && !BUG)",
    },
    Bug {
        name: "the length of the stream is not checked",
        path: PARSER,
        find: "u64::from_le(trailer.stream_bytes) != self.bytes",
        with: "(u64::from_le(trailer.stream_bytes) != self.bytes && !BUG)",
    },
    Bug {
        name: "only half of the length of the stream is checked",
        path: PARSER,
        find: "u64::from_le(trailer.stream_bytes)",
        with: "(u64::from_le(trailer.stream_bytes) & if BUG { 0xffff_ffff } else { !0 })",
    },
    Bug {
        name: "what follows the trailer is skipped",
        path: PARSER,
        find: "Phase::End => return Err(EINVAL),",
        with: "Phase::End if BUG => {
                let mut byte = [0];
                room.read(&mut byte)?;
                return Ok((1, None));
            }
            Phase::End => return Err(EINVAL),",
    },
    Bug {
        name: "an error is not final",
        path: PARSER,
        find: "if result.is_err() {",
        with: "if result.is_err() && !BUG {",
    },
    Bug {
        name: "a section leaves nothing in the checksum of the stream",
        path: "crc32c.rs",
        find: "zeros(len)) ^ crc)",
        with: "zeros(len)) ^ if BUG { 0 } else { crc })",
    },
    Bug {
        name: "the framing takes a section without a payload",
        path: "framing.rs",
        find: "if !(1..=dlr::DLR_SECTION_MAX).contains(&header.length) {",
        with: "if !(u32::from(!BUG)..=dlr::DLR_SECTION_MAX).contains(&header.length) {",
    },
    Bug {
        name: "the framing takes any section for the trailer",
        path: "framing.rs",
        find: "is_trailer: u32::from(header.kind) == dlr::DLR_SECTION_TRAILER,",
        with: "is_trailer: BUG || u32::from(header.kind) == dlr::DLR_SECTION_TRAILER,",
    },
    Bug {
        name: "the framing counts a header as part of its payload",
        path: "layer_framing.rs",
        find: "self.payload = section.length;",
        with: "self.payload = section.length - if BUG { section.length.min(32) } else { 0 };",
    },
    Bug {
        name: "the framing takes what follows the trailer",
        path: "layer_framing.rs",
        find: "            if self.trailer {",
        with: "            if self.trailer && !BUG {",
    },
    Bug {
        name: "the framing forgets what was no section",
        path: "layer_framing.rs",
        find: "self.bad = true;",
        with: "self.bad = !BUG;",
    },
    Bug {
        name: "the framing takes a stream that is too long",
        path: "layer_framing.rs",
        find: "None => self.too_long = true,",
        with: "None => self.too_long = !BUG,",
    },
];
