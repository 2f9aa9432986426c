//! What a request may cost in things that can be counted, so that a step back is seen where time is too noisy to show it.
//!
//! The bounds are what was counted when they were last set, and a little more. Whoever makes it cheaper lowers them;
//! whoever has a reason to spend more raises them, and says why.

use std::process::Command;

use serde_json::Value;

/// Where in the figures, and at most how much.
const BOUNDS: [(&str, f64); 7] = [
    ("/gateway/allocations", 91.0),
    ("/gateway/allocated_bytes", 13_900.0),
    ("/gateway/wire_bytes", 695.0),
    ("/worker/allocations", 93.0),
    ("/worker/allocated_bytes", 13_400.0),
    ("/worker/wire_bytes", 695.0),
    // 256 requests while a record is under way: one frame has it, and the others are one more. On other systems than Linux
    // frames are small, and these ten.
    ("/burst/frames", if cfg!(target_os = "linux") { 2.0 } else { 10.0 }),
];

#[test]
fn a_request_stays_within_its_budget() {
    let counted = Command::new(env!("CARGO_BIN_EXE_budget")).output().unwrap();
    let said = String::from_utf8_lossy(&counted.stderr);
    assert!(counted.status.success(), "{said}");
    let figures: Value = serde_json::from_slice(&counted.stdout).unwrap();
    let over: Vec<_> = BOUNDS
        .iter()
        .filter_map(|&(name, bound)| {
            let value = figures.pointer(name).and_then(Value::as_f64).unwrap();
            assert!(value > 0.0, "{name} was not counted: {figures}");
            (value > bound).then(|| format!("{name}: {value}, allowed {bound}"))
        })
        .collect();
    assert!(over.is_empty(), "over budget: {over:?}\n{figures}");
}
