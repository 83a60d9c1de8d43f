//! pharos-promql
