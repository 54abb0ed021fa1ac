//! An allocator that counts what a thread allocates.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

struct Counting;

thread_local! {
    /// Allocations of this thread and the largest of them, in bytes.
    static ALLOCATIONS: Cell<(u64, usize)> = const { Cell::new((0, 0)) };
}

fn note(bytes: usize) {
    let (count, largest) = ALLOCATIONS.get();
    ALLOCATIONS.set((count + 1, largest.max(bytes)));
}

// SAFETY: everything is passed on to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note(layout.size());
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(place, layout) }
    }

    unsafe fn realloc(&self, place: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        note(bytes);
        // SAFETY: the caller's promise.
        unsafe { System.realloc(place, layout, bytes) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Runs something and returns how many allocations it made and the largest, in bytes.
pub(crate) fn allocations(work: impl FnOnce()) -> (u64, usize) {
    ALLOCATIONS.set((0, 0));
    work();
    ALLOCATIONS.get()
}
