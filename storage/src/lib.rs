//! pharos-storage
