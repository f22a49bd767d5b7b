// SPDX-License-Identifier: Apache-2.0 OR MIT

//! `load`: a saved state into a device.

use std::{
    io::Write,
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::{bail, Context, Result};
use serde::Serialize;

use crate::{
    advice::data_refused,
    device::{Backend, Device},
    discover::Sysfs,
    image::{Header, Summary},
    infile::checked_image,
    node::Node,
    output::{Report, Ui},
    range::human_size,
    session::{Back, Walk},
    state::State,
};

/// Arguments of `load`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The device.
    device: String,

    /// The file that `save` made; also a pipe or /dev/stdin.
    file: PathBuf,

    /// Load an image of another kind of device: it has to refuse it by itself.
    #[arg(long)]
    force: bool,

    /// Most bytes per write() to the data file.
    #[arg(long, default_value = "1M", value_parser = crate::range::parse_size)]
    buffer: u64,

    /// Seconds to keep the device open after loading: closing a PCI device resets it.
    #[arg(long, default_value_t = 0)]
    hold: u64,
}

/// The report.
#[derive(Debug, Serialize)]
pub struct Loaded {
    device: String,
    file: PathBuf,
    from: Header,
    #[serde(flatten)]
    summary: Summary,
    write_ms: f64,
    resume_ms: f64,
}

impl Report for Loaded {
    fn human(&self) -> String {
        format!(
            "loaded {} of {} into {}: written in {:.1} ms, running after {:.1} ms\n",
            human_size(self.summary.total()),
            self.from.device,
            self.device,
            self.write_ms,
            self.resume_ms,
        )
    }
}

/// Would the image be one of another kind of device?
fn mismatch(header: &Header, node: &Node) -> Option<String> {
    let driver = node.driver.clone().unwrap_or_default();
    let name = |id: &Option<String>| id.clone().unwrap_or_else(|| "no PCI device".to_owned());
    if header.pci_id != node.pci_id {
        let (image, device) = (name(&header.pci_id), name(&node.pci_id));
        return Some(format!("the image is of {image}, the device is {device}"));
    }
    (header.driver != driver).then(|| {
        format!(
            "the image was saved by {}, the device is bound to {driver}",
            header.driver
        )
    })
}

/// Loads a saved state.
///
/// # Errors
///
/// The image is damaged or of another kind of device, or the device refuses it; the device is
/// RUNNING again, after a reset where its state machine does not lead there.
pub fn run(args: &Args, backend: Backend, ui: &Ui) -> Result<Loaded> {
    let image = checked_image(&args.file)?;
    let summary = image.summary;
    let node = Sysfs::default().find(&args.device)?;
    if let Some(why) = mismatch(&image.header, &node).filter(|_| !args.force) {
        bail!("{why}; --force tries all the same");
    }
    let device = Device::open(&node, backend)?;
    let bar = ui.bytes_bar(&node.name, summary.total());

    let begin = Instant::now();
    let mut walk = Walk::new(&device)?;
    walk.to(State::Resuming)?;
    let mut reader = image.reader()?;
    let (mut block, mut offset) = (Vec::new(), 0);
    while reader.next(&mut block)?.is_none() {
        for part in block.chunks(usize::try_from(args.buffer.clamp(1, 1 << 30))?) {
            ui.check()?;
            walk.data()?.write_all(part).map_err(|e| {
                let total = summary.total();
                let what = format!("the device refuses the image at byte {offset} of {total}");
                data_refused(&what, &e)
            })?;
            offset += part.len() as u64;
            bar.inc(part.len() as u64);
        }
    }
    let written = begin.elapsed();
    if walk
        .back()
        .context("the device refuses the image at its end")?
        == Back::Reset
    {
        bail!("the device refuses the image at its end, and was reset");
    }
    let resumed = begin.elapsed() - written;
    bar.finish_and_clear();
    ui.sleep(Duration::from_secs(args.hold));
    Ok(Loaded {
        device: node.name,
        file: args.file.clone(),
        from: image.header,
        summary,
        write_ms: written.as_secs_f64() * 1e3,
        resume_ms: resumed.as_secs_f64() * 1e3,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_kinds_of_device_are_refused() {
        let node = Node {
            name: "0000:00:05.0".into(),
            pci_id: Some("1af4:1041".into()),
            driver: Some("dlr_vfio_pci".into()),
            vfio: true,
            ..Node::default()
        };
        let mut header = Header {
            pci_id: node.pci_id.clone(),
            driver: "dlr_vfio_pci".into(),
            ..Header::default()
        };
        assert_eq!(mismatch(&header, &node), None);
        header.driver = "mlx5_vfio_pci".into();
        assert!(mismatch(&header, &node).is_some_and(|s| s.contains("mlx5_vfio_pci")));
        header.pci_id = None;
        assert!(mismatch(&header, &node).is_some_and(|s| s.contains("no PCI device")));
    }
}
