//! Clusters at work: which endpoint takes the next request.

use crate::peer::Peer;
use crate::pool::Endpoint;
use pharos_mesh::{Balance, Cluster};
use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

/// A cluster of the configuration with its live endpoints.
#[derive(Debug)]
pub(crate) struct ClusterState {
    pub(crate) config: Arc<Cluster>,
    endpoints: Vec<Member>,
    /// For round robin.
    turn: AtomicUsize,
}

/// An endpoint of a cluster.
#[derive(Debug, Clone)]
pub(crate) struct Member {
    pub(crate) endpoint: Arc<Endpoint>,
    /// What the registry says of the workload behind it.
    pub(crate) peer: Arc<Peer>,
}

/// All endpoints by address, so that connections outlive a change of configuration.
#[derive(Debug, Default)]
pub(crate) struct Endpoints(HashMap<Arc<str>, Weak<Endpoint>>);

impl Endpoints {
    pub(crate) fn get(&mut self, address: &Arc<str>) -> Arc<Endpoint> {
        if let Some(known) = self.0.get(address).and_then(Weak::upgrade) {
            return known;
        }
        let endpoint = Endpoint::new(address.clone());
        self.0.insert(address.clone(), Arc::downgrade(&endpoint));
        endpoint
    }

    /// Forgets the addresses that nobody uses any more.
    pub(crate) fn prune(&mut self) {
        self.0.retain(|_, endpoint| endpoint.strong_count() > 0);
    }
}

impl ClusterState {
    pub(crate) fn new(config: Arc<Cluster>, endpoints: &mut Endpoints) -> Self {
        let members = config
            .endpoints
            .iter()
            .map(|endpoint| Member {
                endpoint: endpoints.get(&endpoint.address),
                peer: Arc::new(Peer::of_endpoint(&endpoint.workload)),
            })
            .collect();
        // A random start keeps many proxies from all beginning with the first endpoint.
        Self { config, endpoints: members, turn: AtomicUsize::new(rand::random_range(0..1024)) }
    }

    /// The endpoint for a request, if there is one. Those in `tried` come last; `hash` is the key for
    /// consistent hashing, absent when the request has none.
    pub(crate) fn pick(&self, hash: Option<u64>, tried: &[Arc<str>]) -> Option<&Member> {
        let fresh = |member: &&Member| !tried.contains(member.endpoint.address());
        let candidates: smallvec::SmallVec<[&Member; 8]> = self.endpoints.iter().filter(fresh).collect();
        if candidates.is_empty() {
            return match tried {
                [] => None,
                _ => self.pick(hash, &[]),
            };
        }
        let random = |below: usize| rand::random_range(0..below);
        match (&self.config.balance, hash) {
            (Balance::Hash(_), Some(key)) => self
                .endpoints
                .iter()
                .filter(fresh)
                .max_by_key(|member| rendezvous(key, member.endpoint.address())),
            (Balance::RoundRobin, _) => {
                let turn = self.turn.fetch_add(1, Ordering::Relaxed);
                candidates.get(turn % candidates.len()).copied()
            }
            (Balance::LeastRequest, _) if candidates.len() > 1 => {
                let first = random(candidates.len());
                // Any but the first, each as likely.
                let second = (first + 1 + random(candidates.len() - 1)) % candidates.len();
                let (first, second) = (candidates.get(first)?, candidates.get(second)?);
                Some(if second.endpoint.active() < first.endpoint.active() { second } else { first })
            }
            _ => candidates.get(random(candidates.len())).copied(),
        }
    }
}

/// Highest-random-weight hashing: a lost endpoint moves only its own keys.
fn rendezvous(key: u64, address: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    key.hash(&mut hasher);
    address.hash(&mut hasher);
    hasher.finish()
}

/// Hash of a request's key for [`ClusterState::pick`].
pub(crate) fn hash_key(value: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}
