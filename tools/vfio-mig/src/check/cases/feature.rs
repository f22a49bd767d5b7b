// SPDX-License-Identifier: Apache-2.0 OR MIT

//! F: VFIO_DEVICE_FEATURE of migration and logging.

use rustix::io::Errno;
use vfio_bindings::bindings::vfio as vb;

use crate::{
    check::{
        verdict::{accepted, ensure, refused, skip, Outcome},
        Case, Ctx, Group, Needs,
    },
    state::State,
    sys,
};

const GET: u32 = vb::VFIO_DEVICE_FEATURE_GET;
const SET: u32 = vb::VFIO_DEVICE_FEATURE_SET;
const PROBE: u32 = vb::VFIO_DEVICE_FEATURE_PROBE;

/// A feature: name, index, ways, bytes of payload, and what it needs.
type Feature = (&'static str, u32, u32, u32, Needs);

const FEATURES: [Feature; 7] = [
    (
        "MIGRATION",
        vb::VFIO_DEVICE_FEATURE_MIGRATION,
        GET,
        8,
        Needs::MIGRATION,
    ),
    (
        "MIG_DEVICE_STATE",
        vb::VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE,
        GET | SET,
        8,
        Needs::MIGRATION,
    ),
    (
        "MIG_DATA_SIZE",
        vb::VFIO_DEVICE_FEATURE_MIG_DATA_SIZE,
        GET,
        8,
        Needs::MIGRATION,
    ),
    (
        "MIG_PRECOPY_INFOv2",
        vb::VFIO_DEVICE_FEATURE_MIG_PRECOPY_INFOv2,
        SET,
        0,
        Needs::PRE_COPY,
    ),
    (
        "LOGGING_START",
        vb::VFIO_DEVICE_FEATURE_DMA_LOGGING_START,
        SET,
        24,
        Needs::LOGGING,
    ),
    (
        "LOGGING_STOP",
        vb::VFIO_DEVICE_FEATURE_DMA_LOGGING_STOP,
        SET,
        0,
        Needs::LOGGING,
    ),
    (
        "LOGGING_REPORT",
        vb::VFIO_DEVICE_FEATURE_DMA_LOGGING_REPORT,
        GET,
        32,
        Needs::LOGGING,
    ),
];

/// See the module.
pub(super) fn cases() -> Vec<Case> {
    let case = |id, needs, says, run: fn(&mut Ctx) -> Outcome| {
        Case::new(Group::Feature, id, needs, says, run)
    };
    let (mig, logging) = (Needs::MIGRATION, Needs::LOGGING);
    vec![
        case("F1.header", mig,
            "argsz below 8, unknown flags and GET with SET are EINVAL, no memory EFAULT, an unknown \
             feature ENOTTY (vfio_main.c:1263-1321)",
            header),
        case("F2.probe", mig,
            "PROBE tells whether the given ways are had, without a payload: 0 or EINVAL \
             (uapi:899, vfio.h:275)",
            probe),
        case("F3.sizes-of-migration", mig,
            "a payload shorter than the feature's is EINVAL (vfio.h:283)",
            sizes),
        case("F3.sizes-of-logging", logging,
            "a payload shorter than the feature's is EINVAL (vfio.h:283)",
            sizes_of_logging),
        case("F4.v2-needs-pre-copy", mig,
            "PRECOPY_INFOv2 without pre-copy is EINVAL, even for PROBE (vfio_main.c:1014)",
            v2_needs_pre_copy),
        case("F5.migration-flags", mig,
            "STOP_COPY must be set; other combinations than with P2P and PRE_COPY are undefined \
             (uapi:1018, 1034)",
            migration_flags),
        case("F5.logging-is-whole", Needs::LOGGING,
            "logging is START, STOP and REPORT together (uapi:1371-1465)",
            logging_is_whole),
    ]
}

fn header(ctx: &mut Ctx) -> Outcome {
    let get = GET | vb::VFIO_DEVICE_FEATURE_MIGRATION;
    for argsz in [0, 4, 7] {
        let result = ctx.dut.feature(get, argsz, [0; 8]);
        refused(format!("argsz {argsz}"), result, &[Errno::INVAL])?;
    }
    for bit in 19..32 {
        let result = ctx.dut.feature(get | 1 << bit, 16, [0; 8]);
        refused(format!("flag bit {bit}"), result, &[Errno::INVAL])?;
    }
    let both = ctx.dut.feature(get | SET, 16, [0; 8]);
    refused("GET with SET", both, &[Errno::INVAL])?;
    let neither = ctx
        .dut
        .feature(vb::VFIO_DEVICE_FEATURE_MIGRATION, 16, [0; 8]);
    refused("neither GET nor SET", neither, &[Errno::INVAL])?;
    let unknown = ctx.dut.feature(PROBE | GET | 0xffff, 8, [0; 8]);
    refused("PROBE of feature 0xffff", unknown, &[Errno::NOTTY])?;
    let nowhere = ctx.dut.raw(sys::feature_nowhere);
    refused("a struct at address 0", nowhere, &[Errno::FAULT])
}

fn probe(ctx: &mut Ctx) -> Outcome {
    for (name, index, ways, _, needs) in FEATURES {
        if ctx.lacks(needs).is_some() {
            continue;
        }
        for (asked, words) in [
            (GET, "GET"),
            (SET, "SET"),
            (GET | SET, "GET|SET"),
            (0, "neither"),
        ] {
            let result = ctx.dut.feature(PROBE | asked | index, 8, [0; 8]);
            let call = format!("PROBE {words} of {name}");
            if asked & !ways == 0 {
                accepted(call, result)?;
            } else {
                refused(call, result, &[Errno::INVAL])?;
            }
        }
    }
    Ok(())
}

fn sizes(ctx: &mut Ctx) -> Outcome {
    for (name, index, ways, bytes, _) in FEATURES.into_iter().take(3) {
        for argsz in [8, 8 + bytes - 1] {
            let result = ctx.dut.feature(GET | index, argsz, [0; 8]);
            refused(
                format!("GET {name} with argsz {argsz}"),
                result,
                &[Errno::INVAL],
            )?;
        }
        accepted(
            format!("GET {name} with a longer argsz"),
            ctx.dut.feature(GET | index, 8 + bytes + 8, [0; 8]),
        )?;
        if ways & SET == 0 {
            let result = ctx.dut.feature(SET | index, 16, [0; 8]);
            refused(format!("SET {name}"), result, &[Errno::INVAL])?;
        }
    }
    for argsz in [8, 15] {
        let device = ctx.dut.device()?;
        let echo = sys::set_state_echo(device.fd(), State::Running as u32, argsz);
        refused(
            format!("SET of the state with argsz {argsz}"),
            echo.result,
            &[Errno::INVAL],
        )?;
    }
    Ok(())
}

fn sizes_of_logging(ctx: &mut Ctx) -> Outcome {
    let ranges = [(1 << 20, 1 << 20)];
    for argsz in [8, 31] {
        let start = sys::LogStart {
            argsz,
            page_size: 4096,
            ranges: Some(&ranges),
        };
        let result = ctx.dut.raw(|fd| sys::log_start_raw(fd, &start));
        refused(format!("START with argsz {argsz}"), result, &[Errno::INVAL])?;
    }
    accepted("START", ctx.dut.log_start(4096, &ranges))?;
    for argsz in [8, 39] {
        let report =
            |fd: std::os::fd::BorrowedFd<'_>| sys::log_report_nowhere(fd, argsz, ranges[0], 4096);
        let result = ctx.dut.raw(report);
        refused(
            format!("REPORT with argsz {argsz}"),
            result,
            &[Errno::INVAL],
        )?;
    }
    Ok(())
}

fn v2_needs_pre_copy(ctx: &mut Ctx) -> Outcome {
    if ctx.dut.flags().pre_copy() {
        skip!("the device has pre-copy");
    }
    let v2 = SET | vb::VFIO_DEVICE_FEATURE_MIG_PRECOPY_INFOv2;
    for (flags, call) in [(v2, "SET"), (v2 | PROBE, "PROBE SET")] {
        let result = ctx.dut.feature(flags, 8, [0; 8]);
        refused(format!("{call} PRECOPY_INFOv2"), result, &[Errno::INVAL])?;
    }
    Ok(())
}

fn migration_flags(ctx: &mut Ctx) -> Outcome {
    let get = GET | vb::VFIO_DEVICE_FEATURE_MIGRATION;
    let flags = accepted("GET MIGRATION", ctx.dut.feature(get, 16, [u64::MAX; 8]))?[0];
    ensure!(
        flags & 1 != 0,
        "the flags are {flags:#x}, without STOP_COPY"
    );
    if flags & !7 != 0 {
        ctx.note(format!("flags {flags:#x} are unknown to Linux 7.3"));
    }
    for state in ctx.dut.states() {
        ctx.dut.go(State::Running)?;
        if state != State::Resuming {
            ctx.dut.go(state)?;
        }
        let now = accepted("GET MIGRATION", ctx.dut.feature(get, 16, [0; 8]))?[0];
        ensure!(
            now == flags,
            "the flags are {flags:#x} in RUNNING and {now:#x} in {state}"
        );
    }
    Ok(())
}

fn logging_is_whole(ctx: &mut Ctx) -> Outcome {
    for (name, index, ways, _, _) in FEATURES.into_iter().skip(4) {
        let result = ctx.dut.feature(PROBE | ways | index, 8, [0; 8]);
        accepted(format!("PROBE of {name}"), result)?;
    }
    Ok(())
}
