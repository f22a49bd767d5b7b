// SPDX-License-Identifier: GPL-2.0

//! Section headers of a stream that the user reads, for the check of the layer
//! ([`framing`](crate::vfio::migration::framing)).

use crate::{
    proto::{
        dlr,
        section::Header, //
    },
    vfio::migration::framing::{
        self,
        Section,
        SectionHeader, //
    },
};
use kernel::prelude::*;

/// Position of the user in a stream of the contract.
pub(crate) type Framing = framing::Framing<dlr::dlr_section>;

impl SectionHeader for dlr::dlr_section {
    fn section(&self) -> Option<Section> {
        let header = Header::decode(self)?;
        if !(1..=dlr::DLR_SECTION_MAX).contains(&header.length) {
            return None;
        }
        Some(Section {
            length: header.length as usize,
            is_trailer: u32::from(header.kind) == dlr::DLR_SECTION_TRAILER,
        })
    }
}

#[kunit_tests(dlr_vf_framing)]
mod tests {
    use super::*;

    fn section(magic: u32, kind: u32, length: u32) -> Option<(usize, bool)> {
        let mut header: dlr::dlr_section = zerocopy::FromZeros::new_zeroed();
        header.magic = magic.to_le();
        header.type_ = (kind as u16).to_le();
        header.length = length.to_le();
        let section = header.section()?;
        Some((section.length, section.is_trailer))
    }

    #[test]
    fn what_is_no_section_is_refused() {
        let (magic, max) = (dlr::DLR_SECTION_MAGIC, dlr::DLR_SECTION_MAX);
        for (kind, is_trailer) in [
            (dlr::DLR_SECTION_HEADER, false),
            (dlr::DLR_SECTION_DEVICE_FIRST, false),
            (dlr::DLR_SECTION_TRAILER, true),
        ] {
            for length in [1, 100, max] {
                let want = Some((length as usize, is_trailer));
                assert_eq!(section(magic, kind, length), want);
            }
            assert_eq!(section(magic, kind, 0), None);
            assert_eq!(section(magic, kind, max + 1), None);
            assert_eq!(section(magic ^ 1, kind, 100), None);
        }
    }
}
