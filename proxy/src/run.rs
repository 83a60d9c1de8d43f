//! A proxy from start to end.

use crate::config::Config;
use crate::listen::{self, App, Listener};
use crate::node::Node;
use crate::pool::Endpoint;
use crate::record::Role;
use crate::state::{ReloadError, Shared};
use crate::telemetry::{StartError, Telemetry};
use pharos_mesh::RetryPolicy;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// A running proxy. Dropping it leaves it running; see [`Proxy::stop`].
#[derive(Debug)]
pub struct Proxy {
    addresses: ProxyAddresses,
    traffic: TaskTracker,
    senders: TaskTracker,
    stop_traffic: CancellationToken,
    stop_senders: CancellationToken,
}

/// Where a proxy listens, in the order of its settings; ports that were 0 are the real ones here.
#[derive(Debug, Clone)]
pub struct ProxyAddresses {
    pub inbound: Vec<SocketAddr>,
    pub outbound: Vec<SocketAddr>,
    pub gateway: Vec<SocketAddr>,
    pub admin: SocketAddr,
}

#[derive(Debug, thiserror::Error)]
pub enum RunError {
    #[error("cannot listen on {address}: {source}")]
    Listen { address: SocketAddr, source: std::io::Error },
    #[error(transparent)]
    Telemetry(#[from] StartError),
    #[error(transparent)]
    Mesh(#[from] ReloadError),
}

impl Proxy {
    /// Opens all listeners and begins to serve. Needs a tokio runtime.
    ///
    /// # Errors
    /// When an address is taken, or the mesh's configuration cannot be read at the start: later a faulty
    /// one is refused and the one before stays.
    pub async fn start(config: Config) -> Result<Self, RunError> {
        let node = Arc::new(Node::new(&config));
        let (stop_traffic, stop_senders) = (CancellationToken::new(), CancellationToken::new());
        let (traffic, senders) = (TaskTracker::new(), TaskTracker::new());
        let telemetry = Telemetry::start(&config.telemetry, &node, &senders, &stop_senders)?;

        let admin_socket = bind(config.admin.listen).await?;
        let inbound = bind_all(config.inbound.iter().map(|entry| entry.listen)).await?;
        let outbound = bind_all(config.outbound.iter().map(|entry| entry.listen)).await?;
        let gateway = bind_all(config.gateway.iter().map(|entry| entry.listen)).await?;
        let addresses = ProxyAddresses {
            inbound: inbound.iter().map(|(_, address)| *address).collect(),
            outbound: outbound.iter().map(|(_, address)| *address).collect(),
            gateway: gateway.iter().map(|(_, address)| *address).collect(),
            admin: admin_socket.1,
        };
        let own = [&addresses.inbound, &addresses.outbound, &addresses.gateway];
        let own = own.into_iter().flatten().copied().chain([addresses.admin]).collect();
        let shared = Arc::new(Shared::new(node, telemetry, config.telemetry.tracing, own));
        shared.load(&config.mesh)?;

        let listen = |role, port, app, socket| {
            let listener = Arc::new(Listener { shared: shared.clone(), role, port, app });
            traffic.spawn(listen::run(listener, socket, stop_traffic.clone()));
        };
        for ((socket, _), entry) in inbound.into_iter().zip(&config.inbound) {
            let port = entry.port.unwrap_or(entry.app.port());
            let service = entry.service.as_ref().map(|host| {
                let name = host.split('.').next().unwrap_or_default();
                (Arc::from(host.as_str()), Arc::from(name))
            });
            let operation = match &entry.service {
                Some(host) => format!("{host}:{port}/*"),
                None => "ingress".to_owned(),
            };
            let app = App {
                endpoint: Endpoint::new(entry.app.to_string().into()),
                protocol: entry.protocol,
                cluster_name: format!("inbound|{port}||").into(),
                operation: operation.into(),
                service,
                retries: Arc::new(RetryPolicy::inbound_default()),
            };
            listen(Role::Inbound, None, Some(app), socket);
        }
        for ((socket, _), entry) in outbound.into_iter().zip(&config.outbound) {
            listen(Role::Outbound, entry.port, None, socket);
        }
        for ((socket, _), entry) in gateway.into_iter().zip(&config.gateway) {
            listen(Role::Gateway, Some(entry.port), None, socket);
        }
        traffic.spawn(crate::admin::run(shared.clone(), admin_socket.0, stop_traffic.clone()));
        traffic.spawn(shared.clone().watch(config.mesh, stop_traffic.clone()));
        Ok(Self { addresses, traffic, senders, stop_traffic, stop_senders })
    }

    pub fn addresses(&self) -> &ProxyAddresses {
        &self.addresses
    }

    /// Ends the proxy: no new connections, the requests under way may finish (1 s), then what there is to
    /// tell is sent (at most 1 s more).
    pub async fn stop(self) {
        self.stop_traffic.cancel();
        self.traffic.close();
        self.traffic.wait().await;
        self.stop_senders.cancel();
        self.senders.close();
        let flush = std::time::Duration::from_secs(1);
        if tokio::time::timeout(flush, self.senders.wait()).await.is_err() {
            tracing::warn!("telemetry was left behind: its receivers did not take it in time");
        }
    }
}

async fn bind(address: SocketAddr) -> Result<(TcpListener, SocketAddr), RunError> {
    let fault = |source| RunError::Listen { address, source };
    let socket = TcpListener::bind(address).await.map_err(fault)?;
    let address = socket.local_addr().map_err(fault)?;
    Ok((socket, address))
}

async fn bind_all(
    addresses: impl Iterator<Item = SocketAddr>,
) -> Result<Vec<(TcpListener, SocketAddr)>, RunError> {
    let mut bound = Vec::new();
    for address in addresses {
        bound.push(bind(address).await?);
    }
    Ok(bound)
}
