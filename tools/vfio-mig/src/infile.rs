// SPDX-License-Identifier: Apache-2.0 OR MIT

//! The image that a command reads: all of it is checked before a device is touched, and it is read
//! again afterwards. What can be read only once, a pipe or a terminal's or a socket's standard input,
//! is kept in a file without a name meanwhile.

use std::{
    fs::File,
    io::{self, BufReader, BufWriter, Read, Seek, Write},
    os::unix::fs::FileTypeExt,
    path::Path,
};

use anyhow::{Context, Result};

use crate::image::{verify, Header, ImageError, Reader, Summary};

/// Hands out what it reads, and writes it down.
struct Tee<R, W> {
    from: R,
    to: W,
}

impl<R: Read, W: Write> Read for Tee<R, W> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = self.from.read(buf)?;
        self.to.write_all(&buf[..n])?;
        Ok(n)
    }
}

/// An image that is whole.
#[derive(Debug)]
pub struct Image {
    file: File,
    /// Something may follow it.
    padded: bool,
    /// Where it came from.
    pub header: Header,
    /// What it holds.
    pub summary: Summary,
}

impl Image {
    /// Reads it, from its beginning.
    ///
    /// # Errors
    ///
    /// It is damaged by now.
    pub fn reader(&self) -> Result<Reader<BufReader<&File>>, ImageError> {
        reader(BufReader::new(&self.file), self.padded)
    }
}

fn reader<R: Read>(input: R, padded: bool) -> Result<Reader<R>, ImageError> {
    let reader = Reader::new(input)?;
    Ok(if padded { reader.padded() } else { reader })
}

/// Opens the image `path` and reads it to its end. The file stands at its beginning again.
///
/// # Errors
///
/// It cannot be read, is damaged or truncated.
pub fn checked_image(path: &Path) -> Result<Image> {
    let mut file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    let cannot_load = || format!("cannot load {}", path.display());
    let kind = file.metadata().with_context(cannot_load)?.file_type();
    let padded = kind.is_block_device();
    let (header, summary) = if kind.is_file() || padded {
        reader(BufReader::new(&file), padded)
            .and_then(verify)
            .with_context(cannot_load)?
    } else {
        // Only root and this user can read it, and only through this descriptor.
        let kept = tempfile::tempfile().context("cannot create a file for what is read once")?;
        let mut to = BufWriter::new(&kept);
        let tee = Tee {
            from: &file,
            to: &mut to,
        };
        let checked = reader(BufReader::new(tee), padded)
            .and_then(verify)
            .with_context(cannot_load)?;
        to.flush().context("cannot keep what is read once")?;
        drop(to);
        file = kept;
        checked
    };
    file.rewind().with_context(cannot_load)?;
    Ok(Image {
        file,
        padded,
        header,
        summary,
    })
}

#[cfg(test)]
mod tests {
    use std::{fs, thread};

    use rustix::fs::{mknodat, FileType, Mode, CWD};

    use super::*;
    use crate::image::{Phase, Writer};

    fn image(bytes: usize) -> Vec<u8> {
        let header = Header {
            device: "0000:00:05.0".into(),
            ..Header::default()
        };
        let mut writer = Writer::new(Vec::new(), &header).expect("header");
        let block = vec![7; bytes];
        writer.block(Phase::StopCopy, &block).expect("block");
        writer.finish().expect("end").0
    }

    /// The bytes of the image that is loaded after it was checked.
    fn loaded(path: &Path) -> Result<u64> {
        let image = checked_image(path)?;
        assert_eq!(image.header.device, "0000:00:05.0");
        let mut reader = image.reader()?;
        let (mut block, mut total) = (Vec::new(), 0);
        while reader.next(&mut block)?.is_none() {
            total += block.len() as u64;
        }
        assert_eq!(total, image.summary.total());
        Ok(total)
    }

    #[test]
    fn a_file_and_a_pipe_are_read_twice() {
        let dir = tempfile::tempdir().expect("folder");
        let (file, pipe) = (dir.path().join("file"), dir.path().join("pipe"));
        fs::write(&file, image(300_000)).expect("file");
        assert_eq!(loaded(&file).expect("file"), 300_000);
        mknodat(CWD, &pipe, FileType::Fifo, Mode::from(0o600), 0).expect("pipe");
        let writer = thread::spawn({
            let pipe = pipe.clone();
            move || fs::write(pipe, image(300_000))
        });
        assert_eq!(loaded(&pipe).expect("pipe"), 300_000);
        writer.join().expect("thread").expect("write");
    }

    #[test]
    fn what_never_ends_is_refused_at_its_beginning() {
        let error = checked_image(Path::new("/dev/zero")).expect_err("no image");
        assert!(
            format!("{error:#}").contains("not a vfio-mig image"),
            "{error:#}"
        );
    }
}
