// SPDX-License-Identifier: Apache-2.0 OR MIT

//! The file that `save` writes and `load` reads.
//!
//! All numbers little-endian:
//!
//! ```text
//! magic "VFIOMIG\1" | u32 header length | u32 CRC-32C of header | header (JSON)
//! u32 kind | u32 length | data        kind 1: read in pre-copy, 2: read in stop-copy
//! …
//! u32 3 | u32 16 | u64 data bytes | u32 CRC-32C of all blocks | u32 0
//! ```
//!
//! A block is what one read() gave, so the file also tells how the stream was cut. The
//! device's own bytes are not interpreted: they may hold secrets and are written 0600.

use std::io::{self, Read, Write};

use serde::{Deserialize, Serialize};
use thiserror::Error;

const MAGIC: [u8; 8] = *b"VFIOMIG\x01";
const MAX_HEADER: u32 = 64 << 10;
/// Longest block; larger reads are split.
pub const MAX_BLOCK: u32 = 16 << 20;
const END: u32 = 3;
const END_LENGTH: u32 = 16;

/// What is wrong with an image file.
#[derive(Debug, Error)]
pub enum ImageError {
    /// Not written by `save`, or by an unknown version of it.
    #[error("this is not a vfio-mig image (or one of another version)")]
    Magic,
    /// A field makes no sense.
    #[error("the image is damaged: {0}")]
    Damaged(&'static str),
    /// The file ends too early: `save` was interrupted, or the copy is not complete.
    #[error("the image is truncated")]
    Truncated,
    /// Reading or writing failed.
    #[error(transparent)]
    Io(io::Error),
}

impl From<io::Error> for ImageError {
    fn from(e: io::Error) -> Self {
        if e.kind() == io::ErrorKind::UnexpectedEof {
            Self::Truncated
        } else {
            Self::Io(e)
        }
    }
}

/// Where the image came from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// Name of the source device in sysfs.
    pub device: String,
    /// Driver that it was bound to.
    pub driver: String,
    /// PCI vendor and device id, where it has them: `1af4:1041`.
    pub pci_id: Option<String>,
    /// `VFIO_MIGRATION_*` of the source.
    pub flags: u64,
    /// Release of the source's kernel.
    pub kernel: String,
}

/// When a block was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// While the device was running.
    PreCopy = 1,
    /// After it was stopped.
    StopCopy = 2,
}

/// What a complete image holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// Bytes read while running.
    pub pre_copy_bytes: u64,
    /// Bytes read when stopped.
    pub stop_copy_bytes: u64,
    /// Number of blocks.
    pub blocks: u64,
    /// CRC-32C of all blocks, their kinds and lengths included.
    pub crc: u32,
}

impl Summary {
    /// All data.
    pub fn total(&self) -> u64 {
        self.pre_copy_bytes + self.stop_copy_bytes
    }

    fn add(&mut self, phase: Phase, data: &[u8]) {
        match phase {
            Phase::PreCopy => self.pre_copy_bytes += data.len() as u64,
            Phase::StopCopy => self.stop_copy_bytes += data.len() as u64,
        }
        self.blocks += 1;
        for part in [
            &(phase as u32).to_le_bytes()[..],
            &(data.len() as u32).to_le_bytes(),
            data,
        ] {
            self.crc = crc32c::crc32c_append(self.crc, part);
        }
    }
}

/// Writes an image.
pub struct Writer<W: Write> {
    out: W,
    summary: Summary,
}

impl<W: Write> Writer<W> {
    /// Begins with the header.
    ///
    /// # Errors
    ///
    /// Writing failed.
    pub fn new(mut out: W, header: &Header) -> Result<Self, ImageError> {
        let json = serde_json::to_vec(header).map_err(io::Error::from)?;
        let length = u32::try_from(json.len()).map_err(|_| ImageError::Damaged("header length"))?;
        out.write_all(&MAGIC)?;
        out.write_all(&length.to_le_bytes())?;
        out.write_all(&crc32c::crc32c(&json).to_le_bytes())?;
        out.write_all(&json)?;
        Ok(Self {
            out,
            summary: Summary::default(),
        })
    }

    /// Appends what one read() gave.
    ///
    /// # Errors
    ///
    /// Writing failed.
    pub fn block(&mut self, phase: Phase, data: &[u8]) -> Result<(), ImageError> {
        for part in data.chunks(MAX_BLOCK as usize) {
            self.out.write_all(&(phase as u32).to_le_bytes())?;
            self.out.write_all(&(part.len() as u32).to_le_bytes())?;
            self.out.write_all(part)?;
            self.summary.add(phase, part);
        }
        Ok(())
    }

    /// Ends the image; without this nobody will load it.
    ///
    /// # Errors
    ///
    /// Writing failed.
    pub fn finish(mut self) -> Result<(W, Summary), ImageError> {
        self.out.write_all(&END.to_le_bytes())?;
        self.out.write_all(&END_LENGTH.to_le_bytes())?;
        self.out.write_all(&self.summary.total().to_le_bytes())?;
        self.out.write_all(&self.summary.crc.to_le_bytes())?;
        self.out.write_all(&[0; 4])?;
        self.out.flush()?;
        Ok((self.out, self.summary))
    }
}

fn u32_of<R: Read>(input: &mut R) -> Result<u32, ImageError> {
    let mut bytes = [0; 4];
    input.read_exact(&mut bytes)?;
    Ok(u32::from_le_bytes(bytes))
}

/// Reads an image.
pub struct Reader<R: Read> {
    input: R,
    header: Header,
    summary: Summary,
    padded: bool,
}

impl<R: Read> Reader<R> {
    /// Reads and checks the header.
    ///
    /// # Errors
    ///
    /// Not an image, or a damaged one.
    pub fn new(mut input: R) -> Result<Self, ImageError> {
        let mut magic = [0; 8];
        input.read_exact(&mut magic)?;
        if magic != MAGIC {
            return Err(ImageError::Magic);
        }
        let length = u32_of(&mut input)?;
        let crc = u32_of(&mut input)?;
        if length > MAX_HEADER {
            return Err(ImageError::Damaged("header length"));
        }
        let mut json = vec![0; length as usize];
        input.read_exact(&mut json)?;
        if crc32c::crc32c(&json) != crc {
            return Err(ImageError::Damaged("header checksum"));
        }
        let header =
            serde_json::from_slice(&json).map_err(|_| ImageError::Damaged("header contents"))?;
        Ok(Self {
            input,
            header,
            summary: Summary::default(),
            padded: false,
        })
    }

    /// Does not mind what follows the end: a block device is longer than the image on it.
    #[must_use]
    pub fn padded(self) -> Self {
        Self {
            padded: true,
            ..self
        }
    }

    /// Where the image came from.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// Next block into `data`, or the summary when the end was reached and all adds up.
    ///
    /// # Errors
    ///
    /// The image is damaged or truncated.
    pub fn next(&mut self, data: &mut Vec<u8>) -> Result<Option<Summary>, ImageError> {
        let kind = u32_of(&mut self.input)?;
        let length = u32_of(&mut self.input)?;
        let phase = match kind {
            1 => Phase::PreCopy,
            2 => Phase::StopCopy,
            END => return self.end(length).map(Some),
            _ => return Err(ImageError::Damaged("unknown kind of block")),
        };
        if length > MAX_BLOCK {
            return Err(ImageError::Damaged("length of a block"));
        }
        data.resize(length as usize, 0);
        self.input.read_exact(data)?;
        self.summary.add(phase, data);
        Ok(None)
    }

    fn end(&mut self, length: u32) -> Result<Summary, ImageError> {
        if length != END_LENGTH {
            return Err(ImageError::Damaged("length of the last block"));
        }
        let mut total = [0; 8];
        self.input.read_exact(&mut total)?;
        let crc = u32_of(&mut self.input)?;
        let zero = u32_of(&mut self.input)?;
        if u64::from_le_bytes(total) != self.summary.total() || zero != 0 {
            return Err(ImageError::Damaged("number of bytes"));
        }
        if crc != self.summary.crc {
            return Err(ImageError::Damaged("checksum of the data"));
        }
        if !self.padded && self.input.read(&mut [0])? != 0 {
            return Err(ImageError::Damaged("bytes after the end"));
        }
        Ok(self.summary)
    }
}

/// Reads the whole image and checks it, so that nothing damaged reaches a device.
///
/// # Errors
///
/// The image is damaged or truncated.
pub fn verify<R: Read>(mut reader: Reader<R>) -> Result<(Header, Summary), ImageError> {
    let mut data = Vec::new();
    loop {
        if let Some(summary) = reader.next(&mut data)? {
            return Ok((reader.header, summary));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Vec<u8> {
        let header = Header {
            device: "0000:00:05.0".into(),
            flags: 7,
            ..Header::default()
        };
        let mut w = Writer::new(Vec::new(), &header).expect("header");
        w.block(Phase::PreCopy, b"running").expect("block");
        w.block(Phase::StopCopy, b"stopped").expect("block");
        w.block(Phase::StopCopy, &[]).expect("nothing");
        w.finish().expect("end").0
    }

    fn check(image: &[u8]) -> Result<(Header, Summary), ImageError> {
        verify(Reader::new(image)?)
    }

    #[test]
    fn written_and_read() {
        let image = sample();
        let (header, summary) = check(&image[..]).expect("good image");
        assert_eq!(header.device, "0000:00:05.0");
        assert_eq!(
            (
                summary.pre_copy_bytes,
                summary.stop_copy_bytes,
                summary.blocks
            ),
            (7, 7, 2)
        );
        let mut reader = Reader::new(&image[..]).expect("header");
        let (mut data, mut all) = (Vec::new(), Vec::new());
        while reader.next(&mut data).expect("block").is_none() {
            all.extend_from_slice(&data);
        }
        assert_eq!(all, b"runningstopped");
    }

    #[test]
    fn every_flipped_bit_is_found() {
        let image = sample();
        for bit in 0..image.len() * 8 {
            let mut bad = image.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(check(&bad[..]).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn every_truncation_is_found() {
        let image = sample();
        for length in 0..image.len() {
            assert!(
                matches!(check(&image[..length]), Err(ImageError::Truncated)),
                "{length}"
            );
        }
        let mut longer = image;
        longer.push(0);
        assert!(matches!(check(&longer[..]), Err(ImageError::Damaged(_))));
        // On a block device it is whole all the same.
        let padded = Reader::new(&longer[..]).expect("header").padded();
        verify(padded).expect("good image");
    }

    #[test]
    fn large_reads_are_split() {
        let mut w = Writer::new(io::sink(), &Header::default()).expect("header");
        w.block(Phase::StopCopy, &vec![0; MAX_BLOCK as usize + 1])
            .expect("block");
        assert_eq!(w.finish().expect("end").1.blocks, 2);
    }
}
