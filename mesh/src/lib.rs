//! pharos-mesh
