// SPDX-License-Identifier: Apache-2.0 OR MIT

//! Bugs of one line in the files, each of which the explorer has to find (`src/bug_checks.rs`).

use dlr_copies::Bug;

pub(super) const BUGS: &[Bug] = &[
    Bug {
        name: "a report that is cut short clears what it was to name",
        path: "dirty/session.rs",
        find: "if let Err(error) = told.and_then(|()| user.finish()) {",
        with: "if let Err(error) = told.and_then(|()| user.finish()) {
            if BUG { self.bitmap.clear(asked); }",
    },
    Bug {
        name: "a granule that is reported in part is cleared as a whole",
        path: "dirty/session.rs",
        find: "let whole = Span::inside(range.iova(), range.length(), self.shift);",
        with: "let whole = if BUG { Some(asked) } else { Span::inside(range.iova(), range.length(), self.shift) };",
    },
    Bug {
        name: "what is not tracked is added and not marked",
        path: "dirty/session.rs",
        find: "            self.bitmap.mark_whole(part);",
        with: "            if !BUG { self.bitmap.mark_whole(part); }",
    },
    Bug {
        name: "what was added is not remembered as tracked",
        path: "dirty/session.rs",
        find: "self.tracked.insert(part);",
        with: "if !BUG { self.tracked.insert(part); }",
    },
    Bug {
        name: "what is not tracked is marked and not added",
        path: "dirty/session.rs",
        find: "match self.tracker.add(cx, bytes(part, self.shift)?) {",
        with: "match if BUG { Ok(()) } else { self.tracker.add(cx, bytes(part, self.shift)?) } {",
    },
    Bug {
        name: "a report without memory for its SYNC clears the granules",
        path: "dirty/session.rs",
        find: "if let (Some(whole), Ok(())) = (whole, collected) {",
        with: "if let (Some(whole), true) = (whole, BUG || collected.is_ok()) {",
    },
    Bug {
        name: "a report leaves what was posted to the interrupt",
        path: "dirty/ring/tracker.rs",
        find: "self.drain_to(posted, dirty)?;",
        with: "if !BUG { self.drain_to(posted, dirty)?; }",
    },
    Bug {
        name: "after a loss nothing more is marked",
        path: "dirty/ring/tracker.rs",
        find: "        dirty.mark_all();",
        with: "        if !BUG { dirty.mark_all(); }",
    },
    Bug {
        name: "a dirty report sends no SYNC",
        path: "dirty/ring/tracker.rs",
        find: "if !dirty.any(range) {",
        with: "if BUG || !dirty.any(range) {",
    },
    Bug {
        name: "a drain goes on behind the marker",
        path: "dirty/ring/sync.rs",
        find: "                found = Found::Marker;
                Flow::Stop",
        with: "                found = Found::Marker;
                if BUG { Flow::Continue } else { Flow::Stop }",
    },
    Bug {
        name: "no more markers are expected of a SYNC that was given again",
        path: "dirty/ring/sync.rs",
        find: "self.stale = Stale::new(self.cookie, self.device.sync_found(ticket));",
        with: "self.stale = Stale::new(self.cookie, if BUG { 0 } else { self.device.sync_found(ticket) });",
    },
    Bug {
        name: "a SYNC that was BUSY is not given again",
        path: "dirty/ring/sync.rs",
        find: "Err(error) if error == EBUSY && tries < SYNC_TRIES => tries += 1,",
        with: "Err(error) if error == EBUSY && tries < SYNC_TRIES && !BUG => tries += 1,",
    },
    Bug {
        name: "a SYNC waits once before it drains",
        path: "dirty/ring/sync.rs",
        find: "Found::End if complete? => return Err(EIO),",
        with: "Found::End if complete? || BUG => return Err(EIO),",
    },
    Bug {
        name: "LOST is passed by",
        path: "dirty/ring/sync.rs",
        find: "                *lost = true;",
        with: "                *lost = !BUG;",
    },
    Bug {
        name: "slots are not given back",
        path: "dirty/ring/memory.rs",
        find: "        // the device. The pages are read after the entries that name them, by the VMM, which copies",
        with: "        // The pages are read after the entries that name them, by the VMM, which copies
        if BUG { return; }",
    },
    Bug {
        name: "one slot is given back that was not read",
        path: "dirty/ring/memory.rs",
        find: "        doorbell(self.consumer.head());",
        with: "        doorbell(self.consumer.head().wrapping_add(u32::from(BUG)));",
    },
    Bug {
        name: "the phase of an entry is not looked at",
        path: "dirty/ring/consumer.rs",
        find: "            if F::phase(*word) != phase {",
        with: "            if F::phase(*word) != phase && !BUG {",
    },
    Bug {
        name: "the phase does not flip in the second pass over the ring",
        path: "cmdq_ring.rs",
        find: "    (count >> order) & 1 == 0",
        with: "    (count >> order) & 1 == 0 || BUG",
    },
    Bug {
        name: "a run is taken for its first granule",
        path: "dirty/bitmap.rs",
        find: "            if let Some(span) = run.span() {
                self.mark_in(span, &mut whole);",
        with: "            if let Some(span) = run.span() {
                let span = if BUG { Span::new(span.start(), span.start() + 1).unwrap_or(span) } else { span };
                self.mark_in(span, &mut whole);",
    },
    Bug {
        name: "NIC: entries take the slot that is kept for LOST",
        path: "nic/post.rs",
        find: "        if session.ring.free() < 2 {",
        with: "        if session.ring.free() < 2 - u32::from(BUG) {",
    },
    Bug {
        name: "NIC: a SYNC leaves the last granule of its range in the filter",
        path: "nic/ranges.rs",
        find: "            for granule in from..to {",
        with: "            for granule in from..to - u64::from(BUG) {",
    },
    Bug {
        name: "NIC: a write marks every other granule",
        path: "nic/post.rs",
        find: "            at = start + 1;",
        with: "            at = start + 1 + u64::from(BUG);",
    },
    Bug {
        name: "NIC: a SYNC of everything leaves the filter as it is",
        path: "nic/session.rs",
        find: "SyncRange::All => self.filter.clear(),",
        with: "SyncRange::All => if !BUG { self.filter.clear() },",
    },
    Bug {
        name: "NIC: LOG_ADD leaves out the last granule",
        path: "nic/engine.rs",
        find: "        if session.ranges.add(start, end, MAX_RANGES) {
            Ok(())",
        with: "        if session.ranges.add(start, end - u64::from(BUG), MAX_RANGES) {
            Ok(())",
    },
    Bug {
        name: "NIC: a run takes in a granule that does not follow it",
        path: "nic/post.rs",
        find: "if granule == *start + *run &&",
        with: "if (granule == *start + *run || BUG) &&",
    },
    Bug {
        name: "NIC: the log goes on after LOST",
        path: "nic/post.rs",
        find: "            session.lost = true;",
        with: "            session.lost = !BUG;",
    },
    Bug {
        name: "NIC: POSTED of a log that has ended reads as 0",
        path: "nic/engine.rs",
        find: "let mut value = abi::DLR_LOG_POSTED_ERROR;",
        with: "let mut value = if BUG { 0 } else { abi::DLR_LOG_POSTED_ERROR };",
    },
    Bug {
        name: "NIC: the phase does not flip",
        path: "nic/ring.rs",
        find: "let phase = (self.posted >> self.order) & 1 == 0;",
        with: "let phase = (self.posted >> self.order) & 1 == 0 || BUG;",
    },
];
