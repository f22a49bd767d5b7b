// SPDX-License-Identifier: Apache-2.0 OR MIT

//! Writes initramfs images: the "newc" format of cpio(5), as the kernel's
//! Documentation/driver-api/early-userspace/buffer-format.rst defines it.

use std::io::{self, Write};

/// An archive that is being written.
pub struct Archive<W: Write> {
    out: W,
    inode: u32,
}

impl<W: Write> Archive<W> {
    /// Starts an archive.
    pub fn new(out: W) -> Self {
        Self { out, inode: 1 }
    }

    /// Adds a directory; parents must be added first.
    ///
    /// # Errors
    ///
    /// Those of the writer.
    pub fn directory(&mut self, path: &str) -> io::Result<()> {
        self.entry(path, 0o040_755, &[])
    }

    /// Adds an executable file.
    ///
    /// # Errors
    ///
    /// Those of the writer, and `InvalidInput` beyond 4 GiB.
    pub fn program(&mut self, path: &str, contents: &[u8]) -> io::Result<()> {
        self.entry(path, 0o100_755, contents)
    }

    /// Adds a symbolic link.
    ///
    /// # Errors
    ///
    /// Those of the writer.
    pub fn link(&mut self, path: &str, target: &str) -> io::Result<()> {
        self.entry(path, 0o120_777, target.as_bytes())
    }

    /// Ends the archive.
    ///
    /// # Errors
    ///
    /// Those of the writer.
    pub fn finish(mut self) -> io::Result<W> {
        self.inode = 0;
        self.entry("TRAILER!!!", 0, &[])?;
        self.out.flush()?;
        Ok(self.out)
    }

    fn entry(&mut self, path: &str, mode: u32, contents: &[u8]) -> io::Result<()> {
        let too_long = |e| io::Error::new(io::ErrorKind::InvalidInput, e);
        let size = u32::try_from(contents.len()).map_err(too_long)?;
        let name_size = u32::try_from(path.len() + 1).map_err(too_long)?;
        // inode, mode, uid, gid, links, mtime, size, device (major, minor),
        // rdev (major, minor), name size, checksum (unused)
        let fields = [self.inode, mode, 0, 0, 1, 0, size, 0, 0, 0, 0, name_size, 0];
        self.inode += 1;
        let mut header = String::from("070701");
        for field in fields {
            header.push_str(&format!("{field:08x}"));
        }
        self.out.write_all(header.as_bytes())?;
        self.out.write_all(path.as_bytes())?;
        self.out.write_all(&[0])?;
        self.pad(header.len() + path.len() + 1)?;
        self.out.write_all(contents)?;
        self.pad(contents.len())
    }

    /// Header plus name, and contents, each end on a multiple of four.
    fn pad(&mut self, written: usize) -> io::Result<()> {
        let missing = written.next_multiple_of(4) - written;
        self.out
            .write_all([0; 4].get(..missing).unwrap_or_default())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_aligned_and_trailed() {
        let mut archive = Archive::new(Vec::new());
        archive.directory("dev").unwrap();
        archive.program("init", b"12345").unwrap();
        archive.link("bin", "usr/bin").unwrap();
        let image = archive.finish().unwrap();
        assert_eq!(image.len() % 4, 0);
        let text = String::from_utf8_lossy(&image);
        assert_eq!(text.matches("070701").count(), 4);
        let init = text.find("init").unwrap();
        assert_eq!((init - 110) % 4, 0);
        assert_eq!(text.find("12345").unwrap() % 4, 0);
        assert!(text.contains("TRAILER!!!"));
    }
}
