#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| kafka::fuzzing::response(bytes));
