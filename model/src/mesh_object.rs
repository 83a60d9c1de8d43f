use serde::{Deserialize, Serialize};

use crate::UnixNanos;

/// An Istio or Kubernetes object as it was at a time. Configuration is kept by time so that the past is drawn
/// with the past's configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MeshObject {
    pub time: UnixNanos,
    pub cluster: String,
    pub kind: String,
    pub namespace: String,
    pub name: String,
    /// The object gone at `time`; `json` is then empty.
    pub deleted: bool,
    /// The whole object as JSON.
    pub json: String,
}
