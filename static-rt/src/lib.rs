//! What the static binaries use in place of musl's own: the allocator, and `memcpy` on x86-64. The only crate with
//! unsafe code.
//!
//! Each binary opts in with `#[global_allocator]`; linking the crate for musl in release mode replaces `memcpy` and
//! `memmove`. It depends on `dlmalloc` alone.

mod allocator;
#[cfg(all(target_arch = "x86_64", any(all(target_env = "musl", not(debug_assertions)), test)))]
mod memcpy;

pub use self::allocator::Allocator;
