//! pharos-proto
