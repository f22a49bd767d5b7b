// SPDX-License-Identifier: Apache-2.0 OR MIT

//! The drivers of `samples/vfio`, on devices that an unmodified QEMU emulates.

mod transcript;

use std::time::{Duration, Instant};

use anyhow::{ensure, Context, Result};
use dlr_testing::{artefacts::Workshop, drive::Drive, BoxConfig, HostBox};
use serde_json::{json, Value};

const LIMIT: Duration = Duration::from_secs(900);

/// The drivers' own tests, which run when their module is loaded. The layer's run elsewhere.
const SUITE: &str = "edu_transfer";

/// Region of configuration space.
const CONFIG: u32 = 7;

/// A box with `devices`, and `driver` bound to all of them; their addresses.
fn start(driver: &str, devices: &[&str]) -> Result<(HostBox, Vec<String>)> {
    let built = Workshop::open()?.build_samples("samples", "")?;
    let mut config = BoxConfig::for_test()
        .file("modules/vfio_samples.ko", built)
        .kernel_arg("kunit.enable=1")
        .kernel_arg(format!("kunit.filter_glob={SUITE}"));
    for device in devices {
        config = config.device(*device);
    }
    let host = HostBox::start(config)?;
    host.run("insmod /dlr/modules/vfio_samples.ko")?;
    let log = host.run("dmesg")?;
    ensure!(
        log.lines()
            .any(|l| l.contains(SUITE) && l.contains("ok ") && !l.contains("not ok")),
        "the suite {SUITE} did not pass"
    );
    let addresses: Vec<String> = (0..devices.len())
        .map(|n| host.device(n))
        .collect::<Result<_>>()?;
    for address in &addresses {
        host.bind(address, driver)?;
    }
    Ok((host, addresses))
}

/// Unbinds all and unloads the module, and judges the kernel log.
fn finish(host: HostBox, driver: &str, addresses: &[String]) -> Result<()> {
    for address in addresses {
        host.run(&format!(
            "echo {address} > /sys/bus/pci/drivers/{driver}/unbind"
        ))?;
    }
    host.run("rmmod vfio_samples")?;
    host.finish()
}

/// Runs `vfio-mig check` with a seed; exit code and report.
fn check(host: &HostBox, arguments: &str) -> Result<(Option<i32>, Value)> {
    let command = format!("vfio-mig --json check --seed 20261 {arguments}");
    let output = host.try_run(&command, LIMIT)?;
    let report = serde_json::from_slice(&output.stdout)
        .with_context(|| format!("{command} printed no JSON: {}", output.text()))?;
    Ok((output.code, report))
}

/// Identifier and text of the cases that ended so.
fn cases(report: &Value, status: &str) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let all = report["results"].as_array().into_iter().flatten();
    all.filter(|case| case["status"] == status)
        .map(|case| (text(&case["id"]), text(&case["text"])))
        .collect()
}

/// Opens a device, with memory decoding and bus mastering on.
fn open(host: &HostBox, address: &str) -> Result<Drive> {
    let mut device = Drive::start(host, address)?;
    device.open()?;
    let command = json!({"cmd": "region-write", "region": CONFIG, "offset": 4, "hex": "0600"});
    device.ok(&command)?;
    Ok(device)
}

/// Exports the first page of a BAR as a dma-buf; `OK` or the errno.
fn export(device: &mut Drive, region: u32) -> Result<String> {
    device.errno(&json!({"cmd": "dma-buf", "region": region, "bytes": 4096}))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Registers of `edu`.
const IDENTIFICATION: u64 = 0;
const SRC: u64 = 0x80;
const DST: u64 = 0x88;
const CNT: u64 = 0x90;
const CMD: u64 = 0x98;
/// Its buffer.
const BUFFER: u64 = 0x40000;
const RUN: u64 = 1;
const TO_MEMORY: u64 = 2;

/// Memory for the device.
const MEMORY: u64 = 0x10_0000;
const MEMORY_BYTES: u64 = 0x10_0000;

fn edu_read(device: &mut Drive, register: u64) -> Result<u64> {
    let call = json!({"cmd": "region-read", "region": 0, "offset": register, "bytes": 8});
    let answer = device.ok(&call)?;
    let digits = answer["hex"].as_str().context("no bytes")?;
    Ok(u64::from_str_radix(digits, 16)?.swap_bytes())
}

/// The identification register answers four bytes at a time only.
fn identification(device: &mut Drive) -> Result<Value> {
    let call = json!({"cmd": "region-read", "region": 0, "offset": IDENTIFICATION, "bytes": 4});
    Ok(device.ok(&call)?["hex"].clone())
}

fn edu_write(device: &mut Drive, register: u64, value: u64) -> Result<String> {
    let bytes = hex(&value.to_le_bytes());
    device.errno(&json!({"cmd": "region-write", "region": 0, "offset": register, "hex": bytes}))
}

/// Tells the device to copy; `OK` or the errno of the command.
fn copy(device: &mut Drive, src: u64, dst: u64, cnt: u64, cmd: u64) -> Result<String> {
    for (register, value) in [(SRC, src), (DST, dst), (CNT, cnt)] {
        let done = edu_write(device, register, value)?;
        ensure!(done == "OK", "register {register:#x}: {done}");
    }
    edu_write(device, CMD, cmd)
}

fn wait_for_copy(device: &mut Drive) -> Result<()> {
    let end = Instant::now() + Duration::from_secs(60);
    while edu_read(device, CMD)? & RUN != 0 {
        ensure!(Instant::now() < end, "the copy does not end");
    }
    Ok(())
}

/// Asks the log about one page.
fn is_dirty(device: &mut Drive, iova: u64) -> Result<bool> {
    let range = format!("{iova:#x}+0x1000");
    let answer = device.ok(&json!({"cmd": "report", "range": range}))?;
    Ok(answer["dirty"] == 1)
}

/// Number of dirty pages of the memory.
fn count_dirty(device: &mut Drive) -> Result<u64> {
    let range = format!("{MEMORY:#x}+{MEMORY_BYTES:#x}");
    let answer = device.ok(&json!({"cmd": "report", "range": range}))?;
    answer["dirty"].as_u64().context("no count")
}

fn memory(device: &mut Drive, iova: u64, bytes: u64) -> Result<String> {
    let answer = device.ok(&json!({"cmd": "memory", "iova": iova, "bytes": bytes}))?;
    Ok(answer["hex"].as_str().context("no bytes")?.to_owned())
}

/// The log of `edu` has every page that it writes, also when the report comes before the write.
#[test]
fn edu_logs_what_it_copies_and_refuses_what_would_break_qemu() -> Result<()> {
    let driver = "edu_vfio_pci";
    let (host, addresses) = start(driver, &["edu"])?;
    let address = &addresses[0];
    let mut edu = open(&host, address)?;
    ensure!(identification(&mut edu)? == "ed000001");
    let info = edu.ok(&json!({"cmd": "region-info", "region": 0}))?;
    ensure!(info["mmap"] == false, "BAR 0 can be mapped: {info}");
    // The same call on `bochs-display`, which traps nothing, succeeds.
    let exported = export(&mut edu, 0)?;
    ensure!(exported == "EINVAL", "BAR 0 as a dma-buf: {exported}");
    edu.ok(&json!({"cmd": "map", "iova": MEMORY, "bytes": MEMORY_BYTES, "seed": 1}))?;

    // A copy to the device writes no memory.
    let start = json!({"cmd": "log-start", "ranges": [format!("{MEMORY:#x}+{MEMORY_BYTES:#x}")]});
    edu.ok(&start)?;
    ensure!(copy(&mut edu, MEMORY, BUFFER, 4096, RUN)? == "OK");
    wait_for_copy(&mut edu)?;
    ensure!(count_dirty(&mut edu)? == 0, "a read of memory was logged");

    // A copy from it does, where the address ends up after the device has dropped its upper bits.
    let expected = memory(&mut edu, MEMORY + 16, 100)?;
    let mut in_flight = 0;
    for n in 0..10 {
        let page = MEMORY + (16 + n) * 4096;
        let done = copy(
            &mut edu,
            BUFFER + 16,
            page + 200 + (0xab << 28),
            100,
            RUN | TO_MEMORY,
        )?;
        ensure!(done == "OK", "{done}");
        ensure!(is_dirty(&mut edu, page)?, "copy {n} was not logged");
        // Only if the device was still running after the report does the next one have to tell.
        let running = edu_read(&mut edu, CMD)? & RUN != 0;
        wait_for_copy(&mut edu)?;
        ensure!(
            memory(&mut edu, page + 200, 100)? == expected,
            "copy {n} did not arrive"
        );
        if running {
            in_flight += 1;
            ensure!(
                is_dirty(&mut edu, page)?,
                "copy {n} ended unseen after a report"
            );
        } else {
            is_dirty(&mut edu, page)?;
        }
        ensure!(
            !is_dirty(&mut edu, page)?,
            "copy {n} is over and is told again"
        );
    }
    ensure!(in_flight > 0, "no copy was under way at a report");
    ensure!(count_dirty(&mut edu)? == 0);

    // A copy that began before START is in the log.
    edu.ok(&json!({"cmd": "log-stop"}))?;
    ensure!(copy(&mut edu, BUFFER, MEMORY, 4096, RUN | TO_MEMORY)? == "OK");
    edu.ok(&start)?;
    let running = edu_read(&mut edu, CMD)? & RUN != 0;
    wait_for_copy(&mut edu)?;
    ensure!(
        !running || is_dirty(&mut edu, MEMORY)?,
        "a copy begun before START was lost"
    );

    // What would have QEMU copy past the end of its buffer never reaches the device.
    for (inside, cnt) in [(BUFFER, 4097), (BUFFER + 4096, 1), (BUFFER - 1, 1), (0, 64)] {
        for cmd in [RUN, RUN | TO_MEMORY] {
            let done = copy(&mut edu, inside, inside, cnt, cmd)?;
            ensure!(done == "EINVAL", "{inside:#x}+{cnt}, command {cmd}: {done}");
            ensure!(edu_read(&mut edu, CMD)? & RUN == 0, "the device was told");
        }
    }
    // Nor does what VFIO would split into several accesses.
    for (offset, bytes) in [
        (CNT, 16),
        (SRC - 4, 8),
        (CMD + 1, 2),
        (DST + 2, 4),
        (0x60, 64),
    ] {
        let zeros = hex(&vec![0; bytes]);
        let call = json!({"cmd": "region-write", "region": 0, "offset": offset, "hex": zeros});
        let done = edu.errno(&call)?;
        ensure!(done == "EINVAL", "{bytes} bytes at {offset:#x}: {done}");
    }
    ensure!(identification(&mut edu)? == "ed000001");
    edu.close()?;
    edu.quit()?;

    let (code, report) = check(&host, address)?;
    let (failed, broken) = (cases(&report, "fail"), cases(&report, "error"));
    ensure!(
        code == Some(0) && failed.is_empty() && broken.is_empty(),
        "check: {code:?} {failed:?} {broken:?}"
    );
    transcript::compare(&report, "check-edu.txt")?;
    finish(host, driver, &addresses)
}

/// Bytes of the picture.
const PICTURE: u64 = 4 << 20;
/// Offsets in BAR 2 of `bochs-display`: nine registers of two bytes, and the byte order.
const VBE: u64 = 0x502;
const BYTE_ORDER: u64 = 0x604;

/// What the device holds: checksum of the picture, registers, byte order.
fn bochs_state(device: &mut Drive) -> Result<(Value, Vec<Value>)> {
    let whole = json!({"cmd": "region-read", "region": 0, "offset": 0, "bytes": PICTURE});
    let picture = device.ok(&whole)?["crc32c"].clone();
    let mut registers = Vec::new();
    for n in 0..9 {
        let call = json!({"cmd": "region-read", "region": 2, "offset": VBE + 2 * n, "bytes": 2});
        registers.push(device.ok(&call)?["hex"].clone());
    }
    let order = json!({"cmd": "region-read", "region": 2, "offset": BYTE_ORDER, "bytes": 4});
    registers.push(device.ok(&order)?["hex"].clone());
    Ok((picture, registers))
}

/// Gives every field of the device a value that depends on `seed`.
fn fill_bochs(device: &mut Drive, seed: u16, order: &str) -> Result<()> {
    device.ok(&json!(
        {"cmd": "region-fill", "region": 0, "offset": 0, "bytes": PICTURE, "seed": seed}
    ))?;
    for n in 0..9u16 {
        let value = hex(&(seed * 0x100 + n * 2).to_le_bytes());
        let offset = VBE + 2 * u64::from(n);
        device.ok(&json!({"cmd": "region-write", "region": 2, "offset": offset, "hex": value}))?;
    }
    device.ok(&json!({"cmd": "region-write", "region": 2, "offset": BYTE_ORDER, "hex": order}))?;
    Ok(())
}

/// A pattern moves through every field of `bochs-display`. The driver refuses an image of another
/// model in write(), and `vfio-mig` refuses a damaged image by the checksum of its own file.
#[test]
fn bochs_moves_every_field_of_its_state() -> Result<()> {
    let driver = "bochs_vfio_pci";
    let device = |mib: u32| format!("bochs-display,romfile=,vgamem={}", mib << 20);
    let devices = [device(4), device(4), device(8)];
    let devices: Vec<&str> = devices.iter().map(String::as_str).collect();
    let (host, addresses) = start(driver, &devices)?;
    let (from, to, other) = (&addresses[0], &addresses[1], &addresses[2]);

    let mut source = open(&host, from)?;
    let exported = export(&mut source, 0)?;
    ensure!(exported == "OK", "BAR 0 as a dma-buf: {exported}");
    fill_bochs(&mut source, 0x11, "bebebebe")?;
    let expected = bochs_state(&mut source)?;
    source.close()?;
    source.quit()?;
    let mut target = open(&host, to)?;
    fill_bochs(&mut target, 0x22, "1e1e1e1e")?;
    let before = bochs_state(&mut target)?;
    let differ = before.1.iter().zip(&expected.1).all(|(a, b)| a != b);
    ensure!(differ && before.0 != expected.0, "{before:?} {expected:?}");
    target.close()?;
    target.quit()?;

    // The device has memory decoding off while the tool has it open.
    host.run(&format!("vfio-mig save {from} /tmp/image"))?;
    host.run(&format!("vfio-mig load {to} /tmp/image"))?;
    let mut target = open(&host, to)?;
    let after = bochs_state(&mut target)?;
    ensure!(after == expected, "moved {expected:?}, found {after:?}");
    target.close()?;
    target.quit()?;

    // One byte in the picture, and the same image on a device with more memory.
    let size = host.run("stat -c %s /tmp/image")?;
    let middle = size.trim().parse::<u64>()? / 2;
    host.run(&format!(
        "cp /tmp/image /tmp/bad; printf '\\001\\002\\003' | dd of=/tmp/bad bs=1 seek={middle} conv=notrunc 2>&1"
    ))?;
    for (address, image) in [(to, "bad"), (other, "image")] {
        let said = host.run(&format!("! vfio-mig load {address} /tmp/{image} 2>&1"))?;
        ensure!(!said.is_empty(), "{image} on {address} gave no reason");
        eprintln!("{image} on {address}: {said}");
    }
    let mut target = open(&host, to)?;
    ensure!(
        bochs_state(&mut target)? == expected,
        "a refused image has changed the device"
    );
    target.close()?;
    target.quit()?;

    // With a pair these are the cases of one function and those of two.
    let (code, report) = check(&host, &format!("{from} --pair {to}"))?;
    let (failed, broken) = (cases(&report, "fail"), cases(&report, "error"));
    ensure!(
        code == Some(0) && failed.is_empty() && broken.is_empty(),
        "check: {code:?} {failed:?} {broken:?}"
    );
    transcript::compare(&report, "check-bochs.txt")?;
    finish(host, driver, &addresses)
}
