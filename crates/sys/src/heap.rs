//! The allocator of a program that starts often and lives shortly.
//!
//! Memory comes from the kernel in strips and is cut off from their front; what is freed is kept
//! in a list for its size, and is what the next one of that size gets. There is nothing else: no
//! arenas, no merging, no settings. The C library's allocators are made for programs that live
//! long and have many threads; glibc's takes twice as long, and musl's maps and unmaps pages for
//! nearly every buffer.
//!
//! Large blocks are mappings of their own and go back to the kernel when they are freed.

use std::alloc::{GlobalAlloc, Layout};
use std::cell::UnsafeCell;
use std::ffi::c_void;
use std::ops::Range;
use std::ptr;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Bytes that the kernel is asked for at once. A page of them costs nothing before it is used.
const STRIP: usize = 1 << 20;
/// The largest block that comes from a strip.
const LARGEST: usize = 1 << 16;
/// What all blocks are aligned to, and their sizes are multiples of.
const GRAIN: usize = 16;
/// Up to here there is a list for each multiple of the grain; above, four for each doubling.
const FINE: usize = 256;
/// 16 fine ones, four each for the eight doublings from [`FINE`] to [`LARGEST`], and number 0,
/// which is no size's.
const CLASSES: usize = 17 + 4 * 8;

/// The heap of a program whose `#[global_allocator]` is a [`Program`].
static PROGRAM: OneThreads = OneThreads(UnsafeCell::new(Heap::new()));

/// The allocator of a program that has one thread and keeps to it: a second one ends the program as
/// soon as it allocates. Without that rule a lock would cost as much as all the rest.
#[derive(Clone, Copy, Debug)]
pub struct Program;

/// In a child that will soon execute another program: what the parent has allocated is left where
/// it is and as it is. Freeing it, or using again what was free, would have the kernel copy the
/// page it is in. Nothing happens in programs that have another allocator.
pub fn leave_inherited() {
    if OWNER.load(Ordering::Relaxed) != 0 {
        with(Heap::leave_inherited);
    }
}

/// The one thread, by the address of what each thread has its own of; 0 while there is none.
static OWNER: AtomicUsize = AtomicUsize::new(0);

/// What only one thread touches.
struct OneThreads(UnsafeCell<Heap>);

// SAFETY: only `with` uses it, which lets one thread in.
unsafe impl Sync for OneThreads {}

/// `act` must not allocate.
fn with<T>(act: impl FnOnce(&mut Heap) -> T) -> T {
    thread_local!(static HERE: u8 = const { 0 });
    let here = HERE.with(|here| ptr::from_ref(here).addr());
    if OWNER.load(Ordering::Relaxed) != here {
        let claimed = OWNER.compare_exchange(0, here, Ordering::Relaxed, Ordering::Relaxed);
        if claimed.is_err() {
            std::process::abort();
        }
    }
    // SAFETY: no other thread comes here, and this one is not in here twice: `act` does not
    // allocate, and there are no signal handlers that would.
    act(unsafe { &mut *PROGRAM.0.get() })
}

/// All there is to know.
#[derive(Debug)]
struct Heap {
    /// The unused part of the newest strip.
    front: *mut u8,
    left: usize,
    /// Addresses of blocks that are not taken back.
    inherited: Range<usize>,
    /// The blocks of each class that were freed, each of which begins with a pointer to the next.
    free: [*mut Block; CLASSES],
}

/// A block that nobody has.
#[derive(Debug)]
struct Block {
    next: *mut Block,
}

/// A list's number and the size of its blocks.
#[inline]
const fn class(size: usize) -> (usize, usize) {
    if size <= FINE {
        let grains = if size == 0 { 1 } else { size.div_ceil(GRAIN) };
        return (grains, grains * GRAIN);
    }
    // The size is above 2^doubling and at most the double of that.
    let doubling = (size - 1).ilog2() as usize;
    let quarter = 1 << (doubling - 2);
    let quarters = size.div_ceil(quarter);
    (
        FINE / GRAIN + 4 * (doubling - FINE.ilog2() as usize) + quarters - 4,
        quarters * quarter,
    )
}

const fn is_small(layout: &Layout) -> bool {
    layout.size() <= LARGEST && layout.align() <= GRAIN
}

impl Heap {
    /// An empty one.
    const fn new() -> Self {
        Self {
            front: ptr::null_mut(),
            left: 0,
            inherited: 0..0,
            free: [ptr::null_mut(); CLASSES],
        }
    }

    fn alloc(&mut self, layout: Layout) -> *mut u8 {
        if is_small(&layout) {
            return self.take(layout.size());
        }
        if layout.align() > rustix::param::page_size() {
            return ptr::null_mut();
        }
        map(layout.size().max(1))
    }

    /// # Safety
    /// The block was allocated with this layout, and is not used any more.
    unsafe fn dealloc(&mut self, block: *mut u8, layout: Layout) {
        if is_small(&layout) {
            // SAFETY: the caller's word.
            unsafe { self.put(block, layout.size()) };
        } else {
            // SAFETY: the caller's word: the mapping is this long.
            unsafe { libc::munmap(block.cast::<c_void>(), layout.size().max(1)) };
        }
    }

    /// # Safety
    /// The block was allocated with this layout; where another one comes back, it is not used any
    /// more.
    unsafe fn realloc(&mut self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        let Ok(wanted) = Layout::from_size_align(size, layout.align()) else {
            return ptr::null_mut();
        };
        let small = is_small(&layout) && is_small(&wanted);
        if small && self.resize(block, layout.size(), size) {
            return block;
        }
        let moved = self.alloc(wanted);
        if !moved.is_null() {
            let length = layout.size().min(size);
            // SAFETY: both are this long, and the new one is nobody else's.
            unsafe { ptr::copy_nonoverlapping(block, moved, length) };
            // SAFETY: the caller's block, which it does not use any more.
            unsafe { self.dealloc(block, layout) };
        }
        moved
    }

    fn take(&mut self, size: usize) -> *mut u8 {
        let (class, size) = class(size);
        let block = self.free[class];
        if !block.is_null() {
            // SAFETY: what is in the list was given back, and its first bytes were set by `put`.
            self.free[class] = unsafe { (*block).next };
            return block.cast();
        }
        if self.left < size {
            let strip = map(STRIP);
            if strip.is_null() {
                return strip;
            }
            (self.front, self.left) = (strip, STRIP);
        }
        let block = self.front;
        self.left -= size;
        // SAFETY: `left` counted at least `size` bytes from here to the end of the strip.
        self.front = unsafe { block.add(size) };
        block
    }

    fn leave_inherited(&mut self) {
        let page = rustix::param::page_size();
        let begun = self.front.addr() % page;
        let rest = if begun == 0 { 0 } else { page - begun };
        // Strips begin and end with a page.
        (self.front, self.left) = (self.front.wrapping_add(rest), self.left - rest);
        self.inherited = (self.front.addr() + self.left).saturating_sub(STRIP)..self.front.addr();
        self.free = [ptr::null_mut(); CLASSES];
    }

    /// # Safety
    /// The block was taken with a size of this class, and is not used any more.
    unsafe fn put(&mut self, block: *mut u8, size: usize) {
        if self.inherited.contains(&block.addr()) {
            return;
        }
        let (class, size) = class(size);
        if block.wrapping_add(size) == self.front {
            (self.front, self.left) = (block, self.left + size);
            return;
        }
        let block = block.cast::<Block>();
        let next = self.free[class];
        // SAFETY: at least a grain of bytes that nobody else uses, aligned to a grain.
        unsafe { block.write(Block { next }) };
        self.free[class] = block;
    }

    /// Makes a block another size where it is, if it is of the same class or the last one that
    /// was cut off.
    fn resize(&mut self, block: *mut u8, old: usize, new: usize) -> bool {
        let ((old_class, old), (new_class, new)) = (class(old), class(new));
        if old_class == new_class {
            return true;
        }
        if block.wrapping_add(old) != self.front || self.left + old < new {
            return false;
        }
        self.left = self.left + old - new;
        self.front = block.wrapping_add(new);
        true
    }
}

/// Zeroed pages; null where there are none.
fn map(length: usize) -> *mut u8 {
    let (access, flags) = (
        libc::PROT_READ | libc::PROT_WRITE,
        libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
    );
    // SAFETY: a new mapping at an address of the kernel's choice.
    let pages = unsafe { libc::mmap(ptr::null_mut(), length, access, flags, -1, 0) };
    if pages == libc::MAP_FAILED {
        return ptr::null_mut();
    }
    pages.cast()
}

// SAFETY: blocks are aligned to a grain, or to a page, which is all that `map` can be asked for;
// they do not overlap; none is given out again before it was given back.
unsafe impl GlobalAlloc for Program {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        with(|heap| heap.alloc(layout))
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        let block = with(|heap| heap.alloc(layout));
        // Fresh pages are zeroed.
        if is_small(&layout) && !block.is_null() {
            // SAFETY: just taken, with this size.
            unsafe { block.write_bytes(0, layout.size()) };
        }
        block
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the caller gives back what it was given for this layout.
        with(|heap| unsafe { heap.dealloc(block, layout) });
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: as above.
        with(|heap| unsafe { heap.realloc(block, layout, size) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_size_has_a_class_that_fits() {
        let mut before = (0, 0);
        for size in 1..=LARGEST {
            let (at, room) = class(size);
            assert!(room >= size && room % GRAIN == 0, "{size}: {room}");
            assert!(at < CLASSES, "{size}: {at}");
            assert!(room - size < (size / 4).max(GRAIN), "{size}: {room}");
            assert_eq!(at == before.0, room == before.1, "{size}");
            before = (at, room);
        }
        assert_eq!(before, (CLASSES - 1, LARGEST));
    }

    /// What a random program does: blocks of all sizes, kept for a while, each full of its own
    /// byte.
    fn live(heap: &mut Heap, mut seed: u32) {
        let mut next = |below: usize| {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (seed >> 8) as usize % below
        };
        let mut kept: Vec<(*mut u8, Layout, u8)> = Vec::new();
        let check = |block: *mut u8, length: usize, fill: u8| {
            // SAFETY: a block of this length.
            let bytes = unsafe { std::slice::from_raw_parts(block, length) };
            assert!(bytes.iter().all(|&b| b == fill));
        };
        for round in 0..20_000_usize {
            let doublings = 1 + next(17);
            let size = 1 + next(1 << doublings);
            let what = next(3);
            match (what, kept.len()) {
                (0, 1..) => {
                    let at = next(kept.len());
                    let (block, layout, fill) = kept.swap_remove(at);
                    check(block, layout.size(), fill);
                    // SAFETY: taken with this layout.
                    unsafe { heap.dealloc(block, layout) };
                }
                (1, 1..) => {
                    let at = next(kept.len());
                    let (block, layout, fill) = kept[at];
                    // SAFETY: taken with this layout.
                    let moved = unsafe { heap.realloc(block, layout, size) };
                    assert!(!moved.is_null());
                    check(moved, layout.size().min(size), fill);
                    // SAFETY: that long now.
                    unsafe { moved.write_bytes(fill, size) };
                    kept[at] = (
                        moved,
                        Layout::from_size_align(size, layout.align()).unwrap(),
                        fill,
                    );
                }
                _ => {
                    let layout = Layout::from_size_align(size, 1 << next(13)).unwrap();
                    let block = heap.alloc(layout);
                    assert!(!block.is_null());
                    assert_eq!(block as usize % layout.align(), 0);
                    let fill = u8::try_from(round % 251).unwrap();
                    // SAFETY: that long.
                    unsafe { block.write_bytes(fill, size) };
                    kept.push((block, layout, fill));
                }
            }
        }
        for (block, layout, fill) in kept {
            check(block, layout.size(), fill);
            // SAFETY: taken with this layout.
            unsafe { heap.dealloc(block, layout) };
        }
    }

    #[test]
    fn no_block_is_given_out_twice() {
        let mut heap = Heap::new();
        for seed in 1..=4 {
            live(&mut heap, seed);
        }
    }

    #[test]
    fn what_was_freed_is_used_again() {
        let mut heap = Heap::new();
        let layout = Layout::from_size_align(100, 8).unwrap();
        let (first, second) = (heap.alloc(layout), heap.alloc(layout));
        // SAFETY: taken with this layout.
        unsafe { heap.dealloc(first, layout) };
        assert_eq!(heap.alloc(layout), first);
        // SAFETY: as above.
        unsafe { heap.dealloc(second, layout) };
        assert_eq!(heap.alloc(layout), second);
    }

    #[test]
    fn what_is_inherited_stays_as_it_is() {
        let mut heap = Heap::new();
        let layout = Layout::from_size_align(64, 8).unwrap();
        let (free, kept) = (heap.alloc(layout), heap.alloc(layout));
        let _last = heap.alloc(layout);
        // SAFETY: taken with this layout.
        unsafe { heap.dealloc(free, layout) };
        // SAFETY: that long.
        unsafe { kept.write_bytes(7, 64) };
        heap.leave_inherited();
        let own = heap.alloc(layout);
        let page = rustix::param::page_size();
        assert_ne!(own.addr() / page, kept.addr() / page);
        // SAFETY: taken with this layout.
        unsafe { heap.dealloc(kept, layout) };
        // SAFETY: that long.
        let bytes = unsafe { std::slice::from_raw_parts(kept, 64) };
        assert!(bytes.iter().all(|&b| b == 7), "nothing was written there");
        let _other = heap.alloc(layout);
        // SAFETY: taken with this layout.
        unsafe { heap.dealloc(own, layout) };
        assert_eq!(heap.alloc(layout), own);
    }

    #[test]
    fn a_block_that_nobody_can_have_is_null() {
        let layout = Layout::from_size_align(64, 1 << 30).unwrap();
        assert!(Heap::new().alloc(layout).is_null());
    }

    /// What it tries would end the other tests, too.
    #[test]
    #[ignore = "the body of the next test, in a process of its own"]
    fn two_threads() {
        let layout = Layout::from_size_align(64, 8).unwrap();
        // SAFETY: not empty.
        let take = move || assert!(!unsafe { Program.alloc(layout) }.is_null());
        take();
        take();
        println!("one thread may");
        std::thread::spawn(take).join().unwrap();
    }

    #[test]
    fn a_second_thread_ends_the_program() {
        let mut itself = std::process::Command::new(std::env::current_exe().unwrap());
        itself.args(["--ignored", "--nocapture", "heap::tests::two_threads"]);
        let out = itself.output().unwrap();
        assert!(String::from_utf8_lossy(&out.stdout).contains("one thread may"));
        let signal = std::os::unix::process::ExitStatusExt::signal(&out.status);
        assert_eq!(signal, Some(libc::SIGABRT));
    }
}
