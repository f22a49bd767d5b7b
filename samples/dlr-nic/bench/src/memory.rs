// SPDX-License-Identifier: Apache-2.0 OR MIT

//! Memory that both a function and its driver reach.

use std::fs::File;

use anyhow::{Context, Result};
use dlr_pci::DmaSpace;
use vm_memory::Permissions;

/// Memory that can be mapped, as QEMU gives it.
pub(crate) fn memory(bytes: u64) -> Result<File> {
    use rustix::fs::{fcntl_add_seals, memfd_create, MemfdFlags, SealFlags};
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let file = File::from(memfd_create("dlr-nic-bench", flags)?);
    file.set_len(bytes)?;
    fcntl_add_seals(&file, SealFlags::SHRINK)?;
    Ok(file)
}

pub(crate) fn map(space: &DmaSpace, base: u64, bytes: u64, file: &File) -> Result<()> {
    let fd = file.try_clone()?.into();
    space
        .map(base, bytes, fd, 0, Permissions::ReadWrite)
        .context("mapping memory")
}
