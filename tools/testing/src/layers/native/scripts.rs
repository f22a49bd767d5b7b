// SPDX-License-Identifier: Apache-2.0 OR MIT

//! What the shell of a native kernel does, a script each.

/// Suites run while the module loads.
pub(super) const LOAD: &str = "insmod /module.ko || fail insmod\n";

/// After this only a leak holds memory of the driver.
pub(super) const UNLOAD: &str = "rmmod dlr_vfio_pci || fail rmmod\n";

/// kmemleak reports what is older than 5 s (MSECS_MIN_AGE in mm/kmemleak.c). A pointer that is
/// being moved can hide from one scan, or stay behind in a register or on a stack, so what counts
/// is what a second scan still finds. What "swapper" has allocated, the kernel itself while it
/// boots, is left out: kmemleak does not look everywhere in user-mode Linux and names over a
/// hundred objects of it in a kernel that has loaded nothing.
pub(super) const FIND_LEAKS: &str = "\
leaks=/sys/kernel/debug/kmemleak
sleep 6
echo scan > $leaks || fail kmemleak
echo scan > $leaks
awk '/^unreferenced/ { head = $0; show = 0; next }
     /^  comm / { show = !/comm \"swapper/; if (show) print head }
     show' $leaks
";

/// Runs the suites of `$slow`, or all others, of a module that was loaded with [`kunit::NO_AUTORUN`].
///
/// [`kunit::NO_AUTORUN`]: super::super::kunit::NO_AUTORUN
pub(super) const RUN: &str = "\
run_slow() {
    for suite in $slow; do
        echo 1 > /sys/kernel/debug/kunit/$suite/run
    done
}
run_quick() {
    for suite in /sys/kernel/debug/kunit/*; do
        case \" $slow \" in *\" ${suite##*/} \"*) continue; esac
        echo 1 > $suite/run
    done
}
";

/// Runs the suites once for each interval: with interval N every Nth allocation fails that has the
/// module among its callers, also those that may sleep, but none of KUnit itself, which warns of a
/// failure while it reports a failed assertion. At the end all of them have to pass. (The text of a
/// module of the large code model is `.ltext`.) The tests' errors do not count meanwhile: most cases
/// cannot do without memory. The suites of `$slow` are left out: they have cases of their own in which
/// allocations fail. Leaks are not searched for: KUnit ends a case whose assertion fails without
/// unwinding, so that what its stack owned leaks, and kmemleak may name it much later.
pub(super) const STARVE: &str = "\
attributes=/sys/kernel/debug/failslab
module=/sys/module/dlr_vfio_pci
start=$(cat $module/sections/.ltext)
set_to() { echo $2 > $attributes/$1 || fail failslab $1; }
report=$(awk '$3 == \"__kunit_do_failed_assertion\" { start = $1 \"\" }
    start && $1 \"\" > start { print \"0x\" start, \"0x\" $1; exit }' /proc/kallsyms)
set_to reject-start ${report% *}
set_to reject-end ${report#* }
set_to require-start $start
set_to require-end $((start + $(cat $module/coresize)))
set_to stacktrace-depth 32
set_to ignore-gfp-wait N
set_to cache-filter N
set_to verbose 0
set_to times 1000000
for interval in 1 2 3 4 5 6 7 8 9 10 11 13 17 19 23 29 31 37 41 47; do
    set_to interval $interval
    set_to probability 100
    run_quick
    set_to probability 0
done
echo bed: $((1000000 - $(cat $attributes/times))) allocations failed
run_quick
";

/// Lets the next page allocation fail that has `iova_bitmap_set()` among its callers, which pins
/// pages of the user's bitmap there, and runs the suite of the log again; three times. Nothing else
/// of the suite fails, so all of its cases have to pass.
pub(super) const UNPINNED: &str = "\
attributes=/sys/kernel/debug/fail_page_alloc
set_to() { echo $2 > $attributes/$1 || fail fail_page_alloc $1; }
text=$(awk '$3 == \"iova_bitmap_set\" { start = $1 \"\" }
    start && $1 \"\" > start { print \"0x\" start, \"0x\" $1; exit }' /proc/kallsyms)
suite=$(awk '/m2_what_could_not_be_pinned_is_told_by_the_next_report/ { print FILENAME; exit }' \
    /sys/kernel/debug/kunit/*/results)
suite=${suite%/results}
set_to require-start ${text% *}
set_to require-end ${text#* }
set_to stacktrace-depth 32
set_to ignore-gfp-wait N
set_to ignore-gfp-highmem N
set_to min-order 0
set_to verbose 0
set_to interval 1
for times in 1 2 3; do
    set_to times $times
    set_to probability 100
    echo 1 > $suite/run
    set_to probability 0
    echo bed: $((times - $(cat $attributes/times))) allocations failed
done
";
