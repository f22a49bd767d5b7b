// SPDX-License-Identifier: Apache-2.0 OR MIT

//! Writes images.

use std::io::{self, Write};

use super::{Header, ImageError, Phase, Summary, END, END_LENGTH, MAGIC, MAX_BLOCK};

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

    /// Ends the image. An image without its end is refused by `load`.
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
