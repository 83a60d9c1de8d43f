//! pharos-tests
