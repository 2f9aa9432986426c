//! Upper bounds of what a request costs, in figures that do not depend on time.
//!
//! The bounds are a little above the counts at the time they were set. Lower them with a change that makes requests
//! cheaper. A change that raises one says why.

use std::process::Command;

use serde_json::Value;

/// JSON pointer and upper bound.
const BOUNDS: [(&str, f64); 7] = [
    ("/gateway/allocations", 54.0),
    ("/gateway/allocated_bytes", 6_000.0),
    // Newer versions of the calls are longer by some bytes each.
    ("/gateway/wire_bytes", 720.0),
    ("/worker/allocations", 46.0),
    ("/worker/allocated_bytes", 5_000.0),
    ("/worker/wire_bytes", 720.0),
    // 256 requests while a batch is in flight: that batch, and one with the other 255. Batches are small on other systems.
    ("/burst/batches", if cfg!(target_os = "linux") { 2.0 } else { 10.0 }),
];

#[test]
fn allocations_bytes_and_batches_per_request_are_bounded() {
    let output = Command::new(env!("CARGO_BIN_EXE_budget")).output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stderr}");
    let figures: Value = serde_json::from_slice(&output.stdout).unwrap();
    let exceeded: Vec<_> = BOUNDS
        .iter()
        .filter_map(|&(name, bound)| {
            let value = figures.pointer(name).and_then(Value::as_f64).unwrap();
            assert!(value > 0.0, "{name} was not counted: {figures}");
            (value > bound).then(|| format!("{name}: {value}, allowed {bound}"))
        })
        .collect();
    assert!(exceeded.is_empty(), "{exceeded:?}\n{figures}");
}
