//! A socket that serves a router until it is told to stop.

use std::{net::SocketAddr, time::Duration};

use anyhow::Context;
use axum::{Router, serve::ListenerExt};
use tokio::{net::TcpListener, task::JoinHandle};
use tokio_util::sync::CancellationToken;

/// How long open requests may go on after a stop; live tails never end by themselves.
const STOP_PATIENCE: Duration = Duration::from_millis(1_000);

/// A bound socket: nothing is served yet, but its address is known and connections wait.
pub(crate) struct Listener {
    pub(crate) name: &'static str,
    pub(crate) address: SocketAddr,
    socket: TcpListener,
}

impl Listener {
    /// # Errors
    /// The address is taken or not ours; the message names it and the flag that moves it.
    pub(crate) async fn bind(name: &'static str, address: SocketAddr) -> anyhow::Result<Listener> {
        let socket = TcpListener::bind(address)
            .await
            .with_context(|| format!("cannot listen on {address} for {name}; --listen-{name} moves it"))?;
        Ok(Listener { name, address: socket.local_addr()?, socket })
    }

    /// HTTP/1.1 and HTTP/2 with prior knowledge, which is what gRPC needs.
    pub(crate) fn serve(self, router: Router, stop: CancellationToken) -> JoinHandle<()> {
        tokio::spawn(async move {
            // An answer in several pieces must not wait for the reader to acknowledge the one before: with a delayed
            // acknowledgement that is 40 ms.
            let socket = self.socket.tap_io(|stream| {
                let _ = stream.set_nodelay(true);
            });
            let graceful = axum::serve(socket, router).with_graceful_shutdown(stop.clone().cancelled_owned());
            let patience = async {
                stop.cancelled().await;
                tokio::time::sleep(STOP_PATIENCE).await;
            };
            tokio::select! {
                ended = graceful => {
                    if let Err(error) = ended {
                        tracing::error!(listener = self.name, %error, "listener failed");
                    }
                }
                () = patience => {}
            }
        })
    }
}
