//! pharos-demo
