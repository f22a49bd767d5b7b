// SPDX-License-Identifier: Apache-2.0 OR MIT

//! What a guest's kernel says about the rings of its network devices. Pure.

/// What Linux says (`BAD_RING` in drivers/virtio/virtio_ring.c) when an element of a used ring names
/// no buffer of the device. It uses the queue no more then.
const WORDS: [&str; 2] = [" is not a head!", " out of range"];

/// Lines of a guest's console that say that a used ring is wrong.
pub fn complaints(console: &str) -> Vec<String> {
    console
        .lines()
        .map(str::trim_end)
        .filter(|line| line.contains("virtio_net") && WORDS.iter().any(|w| line.ends_with(w)))
        .map(str::to_owned)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_words_about_used_rings_count() {
        let head = "virtio_net virtio1: input.0:id 771 is not a head!";
        let range = "virtio_net virtio1: output.0:id 70000 out of range";
        let console = format!(
            "Linux version 7.0\r\n{head}\r\n\
             virtio_blk virtio2: req.0:id 3 is not a head!\r\n{range}\r\n\
             virtio_net virtio1 eth0: renamed\r\n"
        );
        assert_eq!(complaints(&console), [head, range]);
        assert!(complaints("").is_empty());
    }
}
