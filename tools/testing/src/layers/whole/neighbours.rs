// SPDX-License-Identifier: Apache-2.0 OR MIT

//! Trouble of one user beside others of the same NIC. The function of A is reset by sysfs, unbound and
//! removed while it is in use, and the NIC answers nothing for it while A returns to RUNNING and closes
//! it. Meanwhile one user, B, has a session and a log, and makes calls; a guest is migrated between two
//! more functions.
//!
//! Nothing here measures time. B's calls have to end while A's still waits; and the guest is migrated for
//! as long as there is trouble.

use std::{
    fs,
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use anyhow::{ensure, Context, Result};
use serde_json::Value;

use super::script::{load, quiet, LIMIT, UNLOAD};
use crate::{
    hostbox::Nic,
    native::{mount_shared, Bed, SHARED},
    NicConfig,
};

/// Time between two looks at the folder.
const PACE: Duration = Duration::from_millis(5);

/// How long a command may take, in milliseconds: much longer than the clean-up of a driver waits.
const TIMEOUT_MS: u32 = 30_000;

/// What the kernel does. `a` and `b` make a call of a user, which has to succeed; `nic` asks this side to
/// ask the NIC. Trouble is made in the background, and the guest is migrated until it is over.
const SCRIPT: &str = r#"
mount -t tmpfs none /tmp || fail tmpfs
A=0000:00:03.0
B=0000:00:04.0
at=/sys/bus/pci/devices/$A
ok() {
    case $answer in
    *'"ok":true'*) ;;
    *) fail "$*: $answer" ;;
    esac
}
nic() {
    number=$((number + 1))
    echo "$1" > $shared/$number.request
    : > $shared/$number.ask
    until [ -e $shared/$number.go ]; do sleep 0.01; done
    read -r answer < $shared/$number.go
    ok NIC "$1"
}
ask_a() { echo "$1" >&3; read -r answer <&4; }
ask_b() { echo "$1" >&5; read -r answer <&6; }
a() { ask_a "$1"; ok A "$1"; }
b() { ask_b "$1"; ok B "$1"; }
is() {
    case $answer in
    *"$1"*) ;;
    *) fail "B, while A $trouble: not $1 but $answer" ;;
    esac
}

# A has a log and a session.
a_begins() {
    a '{"cmd":"open"}'
    a '{"cmd":"log-start","ranges":["0+1M"]}'
    a '{"cmd":"set","state":"PRE_COPY"}'
}
a_ends() {
    a '{"cmd":"close"}'
    a '{"cmd":"forget"}'
}

# B has a log with a page in it, and a session.
b_begins() {
    b '{"cmd":"set","state":"PRE_COPY"}'
    nic '{"cmd":"log-entry","function":3,"entry":{"write":20480}}'
}
# Both are as they were, the page is reported once, and the session goes on to its end.
b_checks() {
    b '{"cmd":"get"}'
    is '"PRE_COPY"'
    b '{"cmd":"report","range":"0+1M"}'
    is '"dirty":1,'
    b '{"cmd":"report","range":"0+1M"}'
    is '"dirty":0,'
}
b_ends() {
    b_checks
    b '{"cmd":"set","state":"STOP_COPY"}'
    b '{"cmd":"read"}'
    is '"end":true'
    b '{"cmd":"set","state":"RUNNING"}'
    b '{"cmd":"forget"}'
}
went_on() {
    b_ends
    echo "bed: B went on while A $trouble"
}
# All of that, and a log, a state and a device that are new.
b_all() {
    b_begins
    b_ends
    b '{"cmd":"log-stop"}'
    b '{"cmd":"reset"}'
    b '{"cmd":"close"}'
    b '{"cmd":"open"}'
    b '{"cmd":"log-start","ranges":["0+1M"]}'
}

# An unbinding holds the lock of the device, so a reset of it fails: from then on they wait for A.
a_blocks() {
    until ask_a '{"cmd":"reset"}'; case $answer in *EAGAIN*) true ;; *) false ;; esac; do sleep 0.01; done
}
bind() {
    echo dlr_vfio_pci > $at/driver_override
    echo $A > /sys/bus/pci/drivers_probe
}

# The call of A waits for a NIC that says nothing, five seconds. Rounds of B's calls are counted that end
# before it does. One has to; a machine that is too busy for that gets three tries.
deaf() {
    trouble="waits in its $1"
    a_begins
    for opcode in suspend resume save-begin save-read save-end log-start log-sync log-stop; do
        nic "{\"cmd\":\"fault\",\"function\":2,\"opcode\":\"$opcode\",\"action\":\"ignore\",\"count\":1000}"
    done
    a "{$2,\"async\":true}"
    job=${answer##*'"job":'}
    job=${job%%[!0-9]*}
    rounds=0
    while true; do
        b_all
        ask_a "{\"cmd\":\"wait\",\"job\":$job,\"timeout_ms\":1}"
        case $answer in
        *'"pending":true'*) rounds=$((rounds + 1)) ;;
        *) break ;;
        esac
    done
    ok A "$1"
    echo "bed: $rounds rounds of B while A $trouble"
    nic '{"cmd":"mend"}'
}

troubles() {
    number=0
    mkfifo /tmp/3 /tmp/4 /tmp/5 /tmp/6
    vfio-mig drive $A < /tmp/3 > /tmp/4 &
    exec 3> /tmp/3 4< /tmp/4
    vfio-mig drive $B < /tmp/5 > /tmp/6 &
    exec 5> /tmp/5 6< /tmp/6
    b '{"cmd":"open"}'
    b '{"cmd":"log-start","ranges":["0+1M"]}'

    trouble="is reset by sysfs"
    a_begins
    b_begins
    echo 1 > $at/reset || fail reset
    went_on
    a_ends

    trouble="is unbound"
    a_begins
    b_begins
    echo $A > $at/driver/unbind &
    waits=$!
    a_blocks
    b_checks
    nic '{"cmd":"log-entry","function":3,"entry":{"write":20480}}'
    a_ends
    wait $waits || fail unbind
    went_on
    bind

    trouble="is removed"
    a_begins
    b_begins
    echo 1 > $at/remove &
    waits=$!
    a_blocks
    b_checks
    nic '{"cmd":"log-entry","function":3,"entry":{"write":20480}}'
    a_ends
    wait $waits || fail remove
    [ -e $at ] && fail "A is not removed"
    went_on
    echo 1 > /sys/bus/pci/rescan || fail rescan
    bind

    for try in 1 2 3; do
        deaf return '"cmd":"set","state":"RUNNING"'
        a_ends
        [ $rounds -gt 0 ] && break
    done
    for try in 1 2 3; do
        deaf close '"cmd":"close"'
        a '{"cmd":"forget"}'
        [ $rounds -gt 0 ] && break
    done

    a_begins
    a_ends
    b '{"cmd":"close"}'
    a '{"cmd":"quit"}'
    b '{"cmd":"quit"}'
}

( troubles; : > /tmp/over ) &
until [ -e /tmp/over ]; do
    vfio-mig --json mirror 0000:00:01.0 0000:00:02.0 --cycles 2 --rounds 4 --interval 20 >> /tmp/mirror \
        || fail mirror
done
wait
cat /tmp/mirror
"#;

/// What B has to have said.
const SAID: [&str; 3] = ["is reset by sysfs", "is unbound", "is removed"];

/// B and the guest are as well as they would be alone.
///
/// # Errors
///
/// They are not, or the run could not be begun.
pub(super) fn run(bed: &Bed, name: &str) -> Result<()> {
    let timeout = format!("--cmd-timeout={TIMEOUT_MS}");
    let config = NicConfig::new(4).args(["--flow-table=16K", timeout.as_str()]);
    let script = [
        format!("{}shared={SHARED}\n", mount_shared()),
        load(4),
        SCRIPT.into(),
        UNLOAD.into(),
    ]
    .concat();
    let mut sick = None;
    let mut companion = |nic: &mut Nic, shared: &Path, ended: &AtomicBool| {
        sick = attend(nic, shared, ended).err();
    };
    let log = bed
        .run(name, config, &script, LIMIT)
        .run_with(Some(&mut companion))?;
    if let Some(error) = sick {
        return Err(error.context("this side of the run"));
    }
    quiet(bed, name, &log)?;
    let place = bed.results.join(name);
    judge(&log).with_context(|| format!("logs are here: {}", place.display()))
}

/// Asks the NIC what the script wants, until the kernel has ended.
fn attend(nic: &mut Nic, shared: &Path, ended: &AtomicBool) -> Result<()> {
    for number in 1.. {
        let file = |what| shared.join(format!("{number}.{what}"));
        while !file("ask").exists() {
            if ended.load(Ordering::Acquire) {
                return nic.check();
            }
            thread::sleep(PACE);
        }
        let request = fs::read_to_string(file("request"))?;
        let answer = match serde_json::from_str(&request) {
            Ok(request) => nic.control(&request).map(|answer| answer["ok"].clone()),
            Err(error) => Err(error.into()),
        };
        let answer = match answer {
            Ok(ok) => format!("{{\"ok\":{ok}}}\n"),
            Err(error) => format!("{error:#}\n"),
        };
        fs::write(file("answer"), answer)?;
        fs::rename(file("answer"), file("go"))?;
    }
    Ok(())
}

/// Reads the log of a run in which nothing failed.
fn judge(log: &str) -> Result<()> {
    let lines = || log.lines().map(str::trim);
    for what in SAID {
        let line = format!("bed: B went on while A {what}");
        ensure!(
            lines().any(|l| l == line),
            "nothing is said of an A that {what}"
        );
    }
    for what in ["return", "close"] {
        let end = format!(" rounds of B while A waits in its {what}");
        let rounds = lines()
            .filter_map(|line| line.strip_prefix("bed: ")?.strip_suffix(&end)?.parse().ok())
            .max();
        ensure!(
            rounds > Some(0),
            "B waited for the {what} of A: rounds of its calls meanwhile: {rounds:?}"
        );
    }
    let reports: Vec<Value> = lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .filter(|report: &Value| report["verdict"].is_string())
        .collect();
    ensure!(!reports.is_empty(), "the guest was not migrated");
    for report in reports {
        ensure!(
            report["verdict"] == "PASS" && report["lost_pages"] == 0,
            "{report}"
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> String {
        let mut log = String::from("[ 0.1] x\r\n");
        for what in SAID {
            log += &format!("bed: B went on while A {what}\r\n");
        }
        log += "bed: 9 rounds of B while A waits in its return\r\n";
        log += "bed: 7 rounds of B while A waits in its close\r\n";
        log + "{\"verdict\":\"PASS\",\"lost_pages\":0}\r\nbed: end\r\n"
    }

    #[test]
    fn every_trouble_has_to_be_told_and_every_report_good() {
        judge(&good()).expect("all is well");
        for (found, instead) in [
            ("while A is removed", "x"),
            ("7 rounds", "0 rounds"),
            ("9 rounds", "no rounds"),
            ("PASS", "FAIL"),
            ("pages\":0", "pages\":1"),
            ("verdict", "x"),
        ] {
            assert!(judge(&good().replace(found, instead)).is_err(), "{found}");
        }
    }
}
