// SPDX-License-Identifier: Apache-2.0 OR MIT

//! Reads and checks images.

use std::io::Read;

use super::{Header, ImageError, Phase, Summary, END, END_LENGTH, MAGIC, MAX_BLOCK, MAX_HEADER};

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
