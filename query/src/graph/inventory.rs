//! What telemetry can't tell: which namespaces exist and who is a waypoint.

use std::collections::BTreeSet;

/// Kubernetes' view, as far as it is known. The empty inventory knows nothing and therefore hides nothing.
#[derive(Clone, Debug, Default)]
pub struct Inventory {
    /// (cluster, namespace); `None` when nothing is known.
    pub namespaces: Option<BTreeSet<(String, String)>>,
    /// (cluster, namespace, workload)
    pub waypoints: BTreeSet<(String, String, String)>,
}

impl Inventory {
    pub(crate) fn is_visible(&self, cluster: &str, namespace: &str) -> bool {
        match &self.namespaces {
            None => true,
            Some(known) => known.contains(&(cluster.to_string(), namespace.to_string())),
        }
    }

    /// Telemetry may not know the cluster.
    pub(crate) fn is_waypoint(&self, cluster: &str, namespace: &str, workload: &str) -> bool {
        self.waypoints.iter().any(|known| {
            (known.0 == cluster || cluster == "unknown") && known.1 == namespace && known.2 == workload
        })
    }
}
