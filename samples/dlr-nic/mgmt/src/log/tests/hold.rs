// SPDX-License-Identifier: Apache-2.0 OR MIT

//! Hold-back of DMA at a full ring (R6).

use super::*;

const HOLD: Duration = Duration::from_millis(60);

/// A log with a ring of 16 slots, of which 8 are taken.
fn half_full() -> Bench {
    let b = Bench::new(4, 512);
    b.log.stop();
    let params = LogParams {
        ring: RING,
        order: 4,
        vector: 3,
        threshold: 16,
        page_shift: 12,
        hold: HOLD,
        ranges: vec![(0, 512 * PAGE)],
    };
    b.log.start(None, &params).unwrap();
    for page in 0..8 {
        b.write(page * 2, 1);
    }
    assert_eq!(b.log.posted(None), 8);
    b
}

#[test]
fn the_vector_says_that_it_begins_and_the_log_answers_meanwhile() {
    let mut b = half_full();
    assert_eq!(b.log.hold_until(4), None, "room for four more");
    assert_eq!(b.interrupt.count(3), 0);
    let begin = Instant::now();
    let until = b.log.hold_until(24).expect("no room for so many");
    assert!(until <= Instant::now() + HOLD && until >= begin + HOLD);
    assert_eq!(b.interrupt.count(3), 1);
    assert_eq!(b.log.hold_until(24), Some(until), "it does not begin anew");
    assert_eq!(b.interrupt.count(3), 1);
    assert_eq!(b.log.stats().holds, 1);
    assert_eq!(b.log.posted(None), 8);
    b.sync(SyncRange::All).unwrap();
    assert!(Instant::now() < until, "POSTED and SYNC waited");
}

/// The look without the lock lets no work begin that the log would hold back.
#[test]
fn the_room_is_known_without_the_lock() {
    let b = half_full();
    let plenty = || b.log.plenty.load(std::sync::atomic::Ordering::Relaxed);
    for posted in 8..14 {
        assert_eq!(b.log.posted(None), posted);
        let room = 16 - posted - 1;
        assert_eq!(
            plenty(),
            room - 1,
            "one is kept for the page that is written next"
        );
        assert_eq!(b.log.hold_until(room), None);
        b.write(u64::from(posted) * 2, 1);
        assert_eq!(b.log.hold_until(room - 1), None);
        assert_eq!(plenty(), room - 1, "the page is not posted yet");
    }
    assert!(b.log.hold_until(4).is_some());
    assert_eq!(plenty(), 0, "the hold has to hear of all work");
    assert!(!b.log.set_head(1), "too little for what waits");
    assert_eq!(plenty(), 0);
    assert!(b.log.set_head(8));
    assert_eq!(plenty(), 16 - (13 - 8) - 2);
    assert_eq!(b.log.hold_until(4), None);
}

#[test]
fn consuming_ends_it() {
    let b = half_full();
    assert!(b.log.hold_until(24).is_some());
    assert!(b.log.set_head(8));
    assert_eq!(b.log.hold_until(24), None);
    assert!(!b.log.set_head(8), "there was none to end");
}

#[test]
fn a_driver_that_consumes_too_little_does_not_draw_it_out() {
    let mut b = half_full();
    for page in 20..26 {
        b.write(page * 2, 1);
    }
    let begin = Instant::now();
    let until = b.log.hold_until(24).unwrap();
    for _ in 0..3 {
        b.consume().unwrap();
        assert_eq!(b.log.hold_until(24), Some(until));
        std::thread::sleep(Duration::from_millis(5));
    }
    std::thread::sleep(until.saturating_duration_since(Instant::now()));
    assert_eq!(b.log.hold_until(24), None, "the time is up");
    assert!(begin.elapsed() >= HOLD);
}

#[test]
fn when_the_time_is_up_it_ends_in_lost_and_then_nothing_is_held() {
    let mut b = half_full();
    let until = b.log.hold_until(24).unwrap();
    std::thread::sleep(until.saturating_duration_since(Instant::now()));
    for page in 100..120 {
        assert_eq!(b.log.hold_until(24), None);
        b.write(page * 2, 1);
    }
    assert_ne!(b.log.state() & abi::DLR_LOG_STATE_LOST, 0);
    assert_eq!(b.log.hold_until(24), None);
    // Re-armed, and full again: it is held again.
    while b.consume().is_some() {}
    b.sync(SyncRange::All).unwrap();
    for page in 0..8 {
        b.write(page * 2, 1);
    }
    b.log.flush();
    assert!(b.log.hold_until(24).is_some());
    b.log.stop();
    assert_eq!(b.log.hold_until(24), None, "no log, no hold");
}
