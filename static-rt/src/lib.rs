//! Replacements for slow parts of musl in the static binaries: the allocator, and `memcpy` and `memmove` on x86-64.
//!
//! - A binary opts in with `#[global_allocator]`. Linking this crate for musl in release mode also replaces the two functions.
//! - Most of the project's unsafe code is here; CI runs it under Miri as far as Miri can.
//! - It depends on `dlmalloc` only, and on no other crate of this workspace.

mod allocator;
#[cfg(all(target_arch = "x86_64", any(all(target_env = "musl", not(debug_assertions)), test)))]
mod memcpy;

pub use self::allocator::Allocator;
