// SPDX-License-Identifier: Apache-2.0 OR MIT

//! Each switch breaks its rule and no other.

use dlr_core::Purpose;

use super::*;

/// A log with one broken rule, and pages `0..64` tracked.
fn broken(kind: SabotageKind, n: u64) -> Bench {
    let b = Bench::new(6, 64);
    b.sabotage.set(kind, n);
    b
}

/// Pages that the ring names, markers and LOST aside, up to its end.
fn named(b: &mut Bench) -> Vec<u64> {
    let mut pages = Vec::new();
    while let Some((kind, page, run)) = b.consume() {
        if kind == abi::DLR_LOG_WRITE {
            pages.extend(page..page + run);
        }
    }
    pages
}

#[test]
fn posted_not_flushed() {
    let mut b = broken(SabotageKind::PostedNotFlushed, 1);
    b.write(1, 1);
    assert_eq!(
        b.log.posted(None),
        0,
        "the write is visible, its entry not posted"
    );
    b.sync(SyncRange::All).unwrap();
    assert_eq!(named(&mut b), [1]);
}

#[test]
fn not_rearmed() {
    let mut b = Bench::new(4, 512);
    b.sabotage.set(SabotageKind::NotRearmed, 1);
    for page in 0..20 {
        b.write(page * 2, 1);
    }
    named(&mut b);
    b.sync(SyncRange::All).unwrap();
    b.write(100, 1);
    b.log.flush();
    assert_eq!(named(&mut b), [0; 0]);
    b.sabotage.set(SabotageKind::NotRearmed, 0);
    b.sync(SyncRange::All).unwrap();
    b.write(100, 1);
    b.log.flush();
    assert_eq!(named(&mut b), [100]);
}

#[test]
fn reset_ends_log() {
    for n in [0, 1] {
        let mut b = broken(SabotageKind::ResetEndsLog, n);
        b.log.function_reset();
        b.write(1, 1);
        b.log.flush();
        assert_eq!(named(&mut b).is_empty(), n == 1);
        assert_eq!(b.log.state(), abi::DLR_LOG_STATE_ACTIVE, "and says nothing");
    }
}

#[test]
fn add_not_tracked() {
    for n in [0, 1] {
        let mut b = broken(SabotageKind::AddNotTracked, n);
        b.log.add(100 * PAGE, PAGE).unwrap();
        b.write(100, 1);
        b.log.flush();
        assert_eq!(named(&mut b).is_empty(), n == 1);
    }
}

#[test]
fn start_too_early() {
    let mut b = Bench::new(6, 64);
    b.log.stop();
    b.sabotage.set(SabotageKind::StartTooEarly, 80);
    let params = LogParams {
        ring: RING,
        order: 6,
        vector: 3,
        threshold: 64,
        page_shift: 12,
        hold: Duration::ZERO,
        ranges: vec![(0, 64 * PAGE)],
    };
    b.log.start(None, &params).unwrap();
    b.write(1, 1);
    std::thread::sleep(Duration::from_millis(90));
    b.write(2, 1);
    b.log.flush();
    assert_eq!(named(&mut b), [2]);
}

#[test]
fn run_too_short() {
    let mut b = broken(SabotageKind::RunTooShort, 1);
    b.write(3, 4);
    b.write(9, 1);
    b.log.flush();
    assert_eq!(named(&mut b), [3, 4, 5, 9]);
}

#[test]
fn writes_of_one_purpose_are_dropped() {
    for (kind, purpose) in [
        (SabotageKind::DropUsedRing, Purpose::UsedRing),
        (SabotageKind::DropControl, Purpose::Control),
        (SabotageKind::DropEvent, Purpose::Event),
    ] {
        let mut b = broken(kind, 1);
        let all = [
            Purpose::Data,
            Purpose::UsedRing,
            Purpose::Control,
            Purpose::Event,
        ];
        for (page, of) in (0..).step_by(2).zip(all) {
            let _purpose = of.begin();
            b.write(page, 1);
        }
        b.log.flush();
        let logged = (0..).step_by(2).zip(all).filter(|(_, of)| *of != purpose);
        let logged: Vec<u64> = logged.map(|(page, _)| page).collect();
        assert_eq!(named(&mut b), logged, "{kind}");
    }
}
