//! pharos-server
