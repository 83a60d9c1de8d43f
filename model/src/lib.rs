//! pharos-model
