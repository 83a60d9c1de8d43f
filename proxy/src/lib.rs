//! pharos-proxy
