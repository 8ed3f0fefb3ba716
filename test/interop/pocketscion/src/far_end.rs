//! A far end of the inner tunnel on the SDK's edge-tun core, in place of our
//! exit. It turns every UDP packet round and answers pings.

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

use ana_gotatun::{
    noise::{TunnResult, rate_limiter::RateLimiter},
    packet::{Packet, WgKind},
    x25519::PublicKey,
};
use anapaya_edge_tun::{
    data::{
        common::EdgePacketBufPool,
        server::{EdgeTunAuthz, EdgeTunServerState, InboundTrafficPolicy},
    },
    fragmenting::metrics::{DefragmentMetrics, FragmentMetrics},
};
use anyhow::{Context, Result};
use scion_sdk_observability::metrics::registry::MetricsRegistry;
use scion_stack::{UdpScionSocket, sciparse::address::ip_socket_addr::ScionSocketIpAddr};

use crate::{
    args::Args,
    keys::{self, Prefix},
    packet, stack,
};

/// Any key may come, and owns the prefix that follows from it.
struct Anybody;

impl EdgeTunAuthz<Prefix> for Anybody {
    fn is_authorized(&self, _: Instant, identity: &PublicKey) -> Option<Prefix> {
        Some(keys::prefix(identity))
    }
}

/// A packet must come from its sender's prefix.
struct OwnPrefix;

impl InboundTrafficPolicy<Prefix> for OwnPrefix {
    fn check_inbound_policy(&self, _: &PublicKey, prefix: &Prefix, b: &[u8]) -> bool {
        packet::parse(b).is_some_and(|p| p.src[..14] == *prefix)
    }
}

type State = EdgeTunServerState<Anybody, OwnPrefix, ScionSocketIpAddr, Prefix>;

/// Prints `--exit ADDRESS --exit-key KEY` as an exit does and serves until
/// standard input ends; then it prints what it saw.
pub async fn run(args: &Args) -> Result<()> {
    let stack = stack::build(args).await?;
    let socket = stack.bind(None).await.context("bind")?;
    let secret = keys::secret(args.get("key"))?;
    let public = keys::public(&secret);
    let pool = EdgePacketBufPool::new(64);
    let registry = MetricsRegistry::new();
    let state = State::new(
        secret,
        Arc::new(RateLimiter::new(&public, 100)),
        Arc::new(Anybody),
        Arc::new(OwnPrefix),
        pool.clone(),
        args.number_or("fragment", 1000)?,
        FragmentMetrics::new(&registry),
        DefragmentMetrics::new(&registry),
    );
    println!(
        "--exit {} --exit-key {}",
        stack::address(socket.local_addr()),
        keys::text(public.as_bytes())
    );

    let mut end = FarEnd {
        socket,
        state,
        pool,
        turned: 0,
        largest: 0,
        refused: 0,
    };
    let ended = tokio::select! {
        failed = end.serve() => failed,
        () = stack::input_end() => Ok(()),
    };
    println!(
        "{}",
        serde_json::json!({"turned": end.turned, "largest": end.largest, "refused": end.refused})
    );
    ended
}

struct FarEnd {
    socket: UdpScionSocket,
    state: State,
    pool: EdgePacketBufPool,
    turned: u64,
    largest: usize,
    refused: u64,
}

impl FarEnd {
    async fn serve(&mut self) -> Result<()> {
        let mut tick = tokio::time::interval(Duration::from_millis(250));
        loop {
            let mut datagram = self.pool.get();
            let buf = datagram.buf_mut();
            buf.resize(buf.capacity(), 0);
            tokio::select! {
                _ = tick.tick() => {
                    for (to, message) in self.state.update_timers() {
                        self.send(to, message).await;
                    }
                }
                received = self.socket.recv_from(buf) => {
                    let (n, from) = received.context("receive")?;
                    datagram.buf_mut().truncate(n);
                    self.take(from, datagram).await;
                }
            }
        }
    }

    /// Takes in a datagram, and answers the IP packet that it completes.
    async fn take(&mut self, from: ScionSocketIpAddr, datagram: Packet) {
        let mut messages = VecDeque::new();
        let result = self
            .state
            .handle_incoming_packet(from, datagram, &mut messages);
        for message in messages {
            self.send(from, message).await;
        }
        match result {
            TunnResult::WriteToTunnel(b) => {
                if let Some(back) = packet::answer(&b) {
                    self.turned += 1;
                    self.largest = self.largest.max(back.len());
                    self.give(&back).await;
                }
            }
            TunnResult::Err(e) => {
                self.refused += 1;
                eprintln!("from {from}: {e:?}");
            }
            TunnResult::Done | TunnResult::WriteToNetwork(_) => {}
        }
    }

    /// Sends an IP packet to the key that owns its destination.
    async fn give(&mut self, b: &[u8]) {
        let Some(Ok(prefix)) = packet::parse(b).map(|p| Prefix::try_from(&p.dst[..14])) else {
            return;
        };
        let mut outgoing = self.pool.get();
        outgoing.buf_mut().clear();
        outgoing.buf_mut().extend_from_slice(b);
        let mut messages = VecDeque::new();
        self.state
            .handle_outgoing_packet(outgoing, &prefix, &mut messages);
        for (to, message) in messages {
            self.send(to, message).await;
        }
    }

    async fn send(&self, to: ScionSocketIpAddr, message: WgKind) {
        let bytes = Packet::from(message).into_bytes();
        if let Err(e) = self.socket.send_to(&bytes, to).await {
            eprintln!("send to {to}: {e}");
        }
    }
}
