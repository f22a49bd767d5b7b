// SPDX-License-Identifier: Apache-2.0 OR MIT

//! What the kernel of a boot does, and where it waits for this side. Both sides go through the same
//! list: before each event the script leaves a file `N.ask` in the folder that they share, and waits for
//! `N.go`.

use super::schedule::{Load, Step};
use crate::native::{mount_shared, SHARED};

/// What is waited for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Event<'a> {
    /// The driver is loaded.
    Load(&'a Load),
    /// `vfio-mig mirror` runs.
    Step(&'a Step),
    /// The driver is unloaded, and memory is looked at.
    Unload,
    /// The kernel ends.
    End,
}

/// All of it, in order.
pub(super) fn events(loads: &[Load]) -> Vec<Event<'_>> {
    let mut events = Vec::new();
    for load in loads {
        events.push(Event::Load(load));
        events.extend(load.steps.iter().map(Event::Step));
        events.push(Event::Unload);
    }
    events.push(Event::End);
    events
}

/// The functions of the script. If this side gives up there is a file `stop`.
const FUNCTIONS: &str = "\
ask() {
    : > $shared/$1.ask
    until [ -e $shared/$1.go ]; do
        if [ -e $shared/stop ]; then fail stopped; poweroff -f; fi
        sleep 0.01
    done
}
load() {
    insmod /module.ko log_ring_order=$1 || fail insmod
    for function in 0000:00:01.0 0000:00:02.0; do
        echo dlr_vfio_pci > /sys/bus/pci/devices/$function/driver_override
        echo $function > /sys/bus/pci/drivers_probe
    done
}
step() {
    number=$1
    shift
    vfio-mig \"$@\" > $shared/$number.json 2> $shared/$number.err
    echo $? > $shared/$number.code
}
unload() {
    rmmod dlr_vfio_pci || fail rmmod
    echo 3 > /proc/sys/vm/drop_caches
    cat /proc/meminfo > $shared/$1.memory
    awk '/ count:/ { pages += $2 } END { print \"Aside: \" pages * 4 \" kB\" }' /proc/zoneinfo >> $shared/$1.memory
}
";

/// The script of a boot.
pub(super) fn script(events: &[Event<'_>]) -> String {
    let mut text = format!("{}shared={SHARED}\n{FUNCTIONS}", mount_shared());
    for (number, event) in events.iter().enumerate() {
        text += &format!("ask {number}\n");
        text += &match event {
            Event::Load(load) => format!("load {}\n", load.ring_order),
            Event::Step(step) => format!("step {number} {}\n", step.arguments()),
            Event::Unload => format!("unload {number}\n"),
            Event::End => String::new(),
        };
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::schedule::Schedule;
    use super::*;

    #[test]
    fn each_event_is_asked_for_once_and_in_order() {
        let loads = Schedule::new(3, 60).boot(0);
        let events = events(&loads);
        let text = script(&events);
        let asked: Vec<_> = text
            .lines()
            .filter_map(|line| line.strip_prefix("ask "))
            .collect();
        let expected: Vec<_> = (0..events.len()).map(|n| n.to_string()).collect();
        assert_eq!(asked, expected);
        let lines = |word| text.lines().filter(|line| line.starts_with(word)).count();
        assert_eq!((lines("load "), lines("unload ")), (3, 3));
        let steps: usize = loads.iter().map(|load| load.steps.len()).sum();
        assert_eq!(lines("step "), steps);
        assert_eq!(events.last(), Some(&Event::End));
    }
}
