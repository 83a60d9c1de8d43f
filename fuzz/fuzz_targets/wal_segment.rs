#![no_main]

// Panics of libraries that are caught are no finding: only one that comes through.
libfuzzer_sys::fuzz_target!(
    init: std::panic::set_hook(Box::new(|_| {})),
    |bytes: &[u8]| pharos_storage::fuzzing::wal_segment(bytes)
);
