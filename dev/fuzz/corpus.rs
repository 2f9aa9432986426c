//! Runs a fuzz target over its corpus. Each crate with fuzz targets includes this file in its unit tests.

use std::path::Path;

/// Passes each file in `corpus/<target>` to `run`.
pub(super) fn each(target: &str, run: fn(&[u8])) {
    // The crates are one or two directories below the root of the workspace.
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
