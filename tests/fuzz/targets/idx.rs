#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| centripetal_fuzz::run("idx", bytes));
