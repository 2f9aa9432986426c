//! Runs a target over its part of the corpus, as an ordinary test: each crate that has targets includes this file in its own.

use std::path::Path;

/// Gives each seed of `target` to `run`.
pub(super) fn each(target: &str, run: fn(&[u8])) {
    // The crates that include this file are one or two directories below the root.
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR"))
        .ancestors()
        .map(|directory| directory.join("dev/fuzz/corpus").join(target))
        .find(|directory| directory.is_dir())
        .unwrap();
    let seeds = std::fs::read_dir(corpus).unwrap();
    let count = seeds
        .map(|seed| run(&std::fs::read(seed.unwrap().path()).unwrap()))
        .count();
    assert!(count > 0);
}
