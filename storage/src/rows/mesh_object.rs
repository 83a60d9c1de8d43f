use pharos_model::{MeshObject, UnixNanos};

use crate::columns::{Column, Row, field};

impl Row for MeshObject {
    const COLUMNS: &'static [Column<MeshObject>] = &[
        field!(time "time", time),
        field!(nanos "time_nanos_rem", time),
        field!(symbol "cluster", cluster),
        field!(symbol "kind", kind),
        field!(symbol "namespace", namespace),
        field!(symbol "name", name),
        field!(bool "deleted", deleted),
        field!(text "json", json),
    ];

    fn blank() -> MeshObject {
        MeshObject {
            time: UnixNanos(0),
            cluster: String::new(),
            kind: String::new(),
            namespace: String::new(),
            name: String::new(),
            deleted: false,
            json: String::new(),
        }
    }
}
