//! The data plane of the SDK's SNAP alone, without control plane and network.

use std::{sync::Arc, time::Instant};

use anyhow::{Context, Result};
use scion_sdk_observability::metrics::registry::MetricsRegistry;
use scion_sdk_utils::task_handler::CancelTaskSet;
use snap_dataplane::tunnel_gateway::{
    NoopTunnelGatewayObserver,
    dispatcher::TunnelGatewayDispatcher,
    metrics::{TunnelGatewayDispatcherMetrics, TunnelGatewayMetrics},
    start_tunnel_gateway,
};
use snap_tun::server::SnapTunAuthorization;
use tokio::net::UdpSocket;

use crate::{args::Args, keys, stack};

/// Any key may attach.
struct Anybody;

impl SnapTunAuthorization for Anybody {
    type SessionData = ();

    fn is_authorized(&self, _: Instant, _: &[u8; 32]) -> Option<Arc<()>> {
        Some(Arc::new(()))
    }
}

/// Prints `--snap IP:PORT --snap-key KEY --isd-as IA` as a SNAP does and passes
/// packets from tunnel to tunnel until standard input ends.
pub async fn run(args: &Args) -> Result<()> {
    let secret = keys::secret(args.get("key"))?;
    let public = keys::public(&secret);
    let socket = UdpSocket::bind(args.get("listen").unwrap_or("127.0.0.1:0"))
        .await
        .context("bind")?;
    let addr = socket.local_addr()?;
    let registry = MetricsRegistry::new();
    let (dispatcher, receiver) =
        TunnelGatewayDispatcher::new(TunnelGatewayDispatcherMetrics::new(&registry));
    let mut tasks = CancelTaskSet::new();
    // What comes out of a tunnel goes where what comes from the network goes:
    // into the tunnel that has its destination.
    start_tunnel_gateway(
        &mut tasks,
        socket,
        Arc::new(Anybody),
        Arc::new(dispatcher),
        Arc::new(NoopTunnelGatewayObserver),
        receiver,
        secret,
        TunnelGatewayMetrics::new(&registry),
    );
    let ia = args.get("isd-as").unwrap_or("1-ff00:0:132");
    println!(
        "--snap {addr} --snap-key {} --isd-as {ia}",
        keys::text(public.as_bytes())
    );
    stack::input_end().await;
    Ok(())
}
