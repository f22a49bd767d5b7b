// SPDX-License-Identifier: Apache-2.0 OR MIT

//! What QEMU refuses to migrate.

use anyhow::{bail, ensure, Result};
use dlr_testing::e2e::{
    attempt::{Settings, NOWHERE},
    Lab, Vm,
};

/// `migrate` is refused with `reason`, and nothing was asked of the device. Ends the VM.
pub(crate) fn expect(lab: &Lab, mut vm: Vm, reason: &str) -> Result<()> {
    let refused = vm.begin(lab, NOWHERE, &Settings::one_way().free());
    let said = match refused {
        Ok(()) => bail!("migrate was not refused: {:?}", vm.until_end()),
        Err(e) => format!("{e:#}"),
    };
    ensure!(said.contains(reason), "refused with `{said}`");
    vm.order(lab.host())?.expect("")?;
    vm.quit(lab.host())
}
