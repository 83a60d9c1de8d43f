#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| pharos_storage::fuzzing::data_file(bytes));
