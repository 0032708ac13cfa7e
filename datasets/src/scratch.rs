//! Buffers that a thread uses again instead of allocating them for every sample.
//!
//! A fresh allocation of an image's size costs a page fault for every 4 KiB; a kept one costs nothing.

use std::cell::RefCell;

/// Buffers kept by a thread: a file and the next, an image, and the image it is resized from.
const BUFFERS_MAX: usize = 5;

/// A buffer above this is given back to the allocator: one giant image must not stay for good.
const BUFFER_BYTES_MAX: usize = 64 << 20;

thread_local! {
    static BUFFERS: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
    static TEXT: RefCell<String> = const { RefCell::new(String::new()) };
}

/// A buffer of `len` bytes. What they are is unspecified: the caller must write every one.
///
/// Of the kept ones it is the shortest that is long enough, or the longest: what a buffer lacks has to be zeroed.
pub(crate) fn take(len: usize) -> Vec<u8> {
    let kept = BUFFERS.with_borrow_mut(|buffers| {
        let enough = (0..buffers.len()).filter(|&place| buffers[place].len() >= len);
        let best = enough.min_by_key(|&place| buffers[place].len());
        let best = best.or_else(|| (0..buffers.len()).max_by_key(|&place| buffers[place].len()))?;
        Some(buffers.swap_remove(best))
    });
    let mut buffer = kept.unwrap_or_default();
    buffer.resize(len, 0);
    buffer
}

/// Keeps a buffer for the next [`take`].
pub(crate) fn give(buffer: Vec<u8>) {
    if buffer.capacity() <= BUFFER_BYTES_MAX {
        BUFFERS.with_borrow_mut(|buffers| {
            if buffers.len() < BUFFERS_MAX {
                buffers.push(buffer);
            }
        });
    }
}

/// Lends an empty text.
pub(crate) fn with_text<T>(use_it: impl FnOnce(&mut String) -> T) -> T {
    let mut text = TEXT.take();
    text.clear();
    let used = use_it(&mut text);
    TEXT.set(text);
    used
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_given_back_is_used_again() {
        give(take(4096));
        let first = take(1024);
        let place = first.as_ptr();
        assert_eq!(first.len(), 1024);
        give(first);
        let second = take(4096);
        assert_eq!(second.as_ptr(), place);
    }

    #[test]
    fn a_giant_buffer_is_not_kept() {
        give(vec![1; BUFFER_BYTES_MAX + 1]);
        assert_eq!(take(0).capacity(), 0);
    }
}
