// SPDX-License-Identifier: Apache-2.0 OR MIT

//! XDP programs on an interface, in its driver: what firewalls and load balancers in guests do.

use anyhow::{Context, Result};
use aya::{
    programs::{Xdp, XdpFlags},
    Ebpf,
};
use dlr_traffic::ECHO_PORT;
use object::{
    write::{Object, Symbol, SymbolSection},
    Architecture, BinaryFormat, Endianness, SectionKind, SymbolFlags, SymbolKind, SymbolScope,
};
use serde::{Deserialize, Serialize};

/// Name of the program and of its section: libraries take its type from the latter.
const NAME: &str = "xdp";

/// What a program does with the frames that arrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// It throws answers to pings away: what comes from [`ECHO_PORT`].
    DropPongs,
    /// All frames go to the network stack.
    Pass,
}

/// An instruction: code, registers (source and destination), offset, immediate value.
type Instruction = (u8, u8, i16, i32);

/// `return XDP_PASS`.
const PASS: &[Instruction] = &[
    (0xb7, 0x00, 0, 2), // r0 = XDP_PASS
    (0x95, 0x00, 0, 0), // exit
];

/// `return` XDP_DROP for a UDP datagram over IPv4 (without options) from [`ECHO_PORT`], else XDP_PASS.
const DROP_PONGS: &[Instruction] = &[
    (0x61, 0x12, 0, 0),                        // r2 = context->data
    (0x61, 0x13, 4, 0),                        // r3 = context->data_end
    (0xbf, 0x24, 0, 0),                        // r4 = r2
    (0x07, 0x04, 0, 38),                       // r4 += Ethernet, IPv4, UDP up to its ports
    (0xb7, 0x00, 0, 2),                        // r0 = XDP_PASS
    (0x2d, 0x34, 5, 0),                        // if r4 > r3 goto exit
    (0x71, 0x25, 23, 0),                       // r5 = protocol
    (0x55, 0x05, 3, 17),                       // if r5 != UDP goto exit
    (0x69, 0x25, 34, 0),                       // r5 = source port
    (0x55, 0x05, 1, ECHO_PORT.to_be() as i32), // if r5 != echo goto exit
    (0xb7, 0x00, 0, 1),                        // r0 = XDP_DROP
    (0x95, 0x00, 0, 0),                        // exit
];

impl Action {
    fn program(self) -> &'static [Instruction] {
        match self {
            Self::DropPongs => DROP_PONGS,
            Self::Pass => PASS,
        }
    }

    /// The program as a compiler writes it into a file.
    fn object(self) -> Result<Vec<u8>> {
        let mut code = Vec::new();
        for (op, registers, offset, value) in self.program() {
            code.extend([*op, *registers]);
            code.extend(offset.to_le_bytes());
            code.extend(value.to_le_bytes());
        }
        let mut file = Object::new(BinaryFormat::Elf, Architecture::Bpf, Endianness::Little);
        let text = file.add_section(Vec::new(), NAME.into(), SectionKind::Text);
        file.append_section_data(text, &code, 8);
        let license = file.add_section(Vec::new(), "license".into(), SectionKind::Data);
        file.append_section_data(license, b"GPL\0", 1);
        file.add_symbol(Symbol {
            name: NAME.into(),
            value: 0,
            size: u64::try_from(code.len())?,
            kind: SymbolKind::Text,
            scope: SymbolScope::Dynamic,
            weak: false,
            section: SymbolSection::Section(text),
            flags: SymbolFlags::None,
        });
        file.write().context("the program's object file")
    }
}

/// The program that is attached to an interface. It is detached when this is dropped.
#[derive(Debug, Default)]
pub struct Attached(Option<Ebpf>);

impl Attached {
    /// Attaches a program in place of the present one, or none.
    ///
    /// # Errors
    ///
    /// The kernel has no BPF, or the driver of the interface refuses.
    pub fn set(&mut self, interface: &str, action: Option<Action>) -> Result<()> {
        self.0 = None;
        let Some(action) = action else {
            return Ok(());
        };
        let mut object = Ebpf::load(&action.object()?).context("load the program")?;
        let program: &mut Xdp = object
            .program_mut(NAME)
            .context("the object file has no program")?
            .try_into()?;
        program.load().context("the kernel's verifier")?;
        // In the driver, or not at all.
        program
            .attach(interface, XdpFlags::DRV_MODE)
            .with_context(|| format!("attach to {interface}"))?;
        self.0 = Some(object);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use aya_obj::{Object, ProgramSection};

    use super::*;

    #[test]
    fn libraries_find_the_program() {
        for action in [Action::DropPongs, Action::Pass] {
            let object = Object::parse(&action.object().unwrap()).unwrap();
            let program = &object.programs[NAME];
            assert!(matches!(program.section, ProgramSection::Xdp { .. }));
            let code = &object.functions[&program.function_key()].instructions;
            let found = code
                .iter()
                .map(|i| (i.code, i.src_reg() << 4 | i.dst_reg(), i.off, i.imm));
            assert_eq!(found.collect::<Vec<_>>(), action.program());
        }
    }
}
