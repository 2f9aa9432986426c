//! Runs a target over its part of the corpus, as an ordinary test: each crate that has targets includes this file in its own.

/// Gives each seed of `target` to `run`.
pub(super) fn each(target: &str, run: fn(&[u8])) {
    let seeds = std::fs::read_dir(format!("{}/../fuzz/corpus/{target}", env!("CARGO_MANIFEST_DIR"))).unwrap();
    let count = seeds.map(|it| run(&std::fs::read(it.unwrap().path()).unwrap())).count();
    assert!(count > 0);
}
