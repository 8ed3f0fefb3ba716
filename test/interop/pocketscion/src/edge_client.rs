//! A client of the inner tunnel on the SDK's `EdgeTunClient`, in place of ours.

use std::{sync::Arc, time::Duration};

use ana_gotatun::x25519::PublicKey;
use anapaya_edge_tun::{
    data::{client::EdgeTunClient, client_state::EdgeTunClientConfig, common::EdgePacketBufPool},
    fragmenting::metrics::{DefragmentMetrics, FragmentMetrics},
};
use anyhow::{Context, Result, bail};
use scion_sdk_observability::metrics::registry::MetricsRegistry;
use serde_json::{Value, json};
use tokio::time::{Instant, timeout};

use crate::{args::Args, keys, packet, stack};

const PROCESS: u16 = 1;
const DNS: u16 = 53;

/// Reaches the exit `--exit` with `--exit-key`, pings its inner address with
/// `--ping-bytes` of data, asks its DNS service for `--name`, prints both
/// answers and ends.
pub async fn run(args: &Args) -> Result<()> {
    let exit = stack::parse_address(args.want("exit")?)?;
    let exit_key = PublicKey::from(keys::parse(args.want("exit-key")?)?);
    let secret = keys::secret(args.get("key"))?;
    let public = keys::public(&secret);
    let stack = stack::build(args).await?;
    let socket = stack.bind(None).await.context("bind")?;
    let local = stack::address(socket.local_addr());
    let registry = MetricsRegistry::new();
    let pool = EdgePacketBufPool::new(64);
    let client = EdgeTunClient::new(
        EdgeTunClientConfig {
            peer_static: exit_key,
            static_secret: secret,
            rate_limit: 100,
            mtu: args.number_or("fragment", 1000)?,
            defrag_queue_counts: 64,
            persistent_keep_alive: Some(15),
        },
        Arc::new(socket),
        exit,
        1024,
        pool.clone(),
        FragmentMetrics::new(&registry),
        DefragmentMetrics::new(&registry),
    );
    let end = Tunnel {
        client,
        pool,
        src: keys::inner(&public, PROCESS),
        dst: keys::inner(&exit_key, 0),
    };

    let data: Vec<u8> = (0..args.number_or("ping-bytes", 56)?)
        .map(|i: usize| i as u8)
        .collect();
    let ping = end.ping(&data).await;
    let dns = match args.get("name") {
        Some(name) => end.resolve(name, args.number_or("type", 28)?).await,
        None => Ok(Value::Null),
    };
    println!(
        "{}",
        json!({"local": local, "key": keys::text(public.as_bytes()), "ping": outcome(ping), "dns": outcome(dns)})
    );
    Ok(())
}

fn outcome(result: Result<Value>) -> Value {
    result.unwrap_or_else(|e| json!({"error": format!("{e:#}")}))
}

struct Tunnel {
    client: EdgeTunClient,
    pool: EdgePacketBufPool,
    src: [u8; 16],
    dst: [u8; 16],
}

impl Tunnel {
    async fn ping(&self, data: &[u8]) -> Result<Value> {
        let (identifier, sequence) = (0x7370, 1);
        let begin = Instant::now();
        self.ask(
            &packet::ping(self.src, self.dst, identifier, sequence, data),
            |p| packet::is_reply(p, identifier, sequence, data).then_some(()),
        )
        .await
        .context("ping")?;
        Ok(json!({"bytes": data.len(), "ms": begin.elapsed().as_millis() as u64}))
    }

    async fn resolve(&self, name: &str, kind: u16) -> Result<Value> {
        let (id, port) = (0x5350, 40053);
        let question = packet::question(id, name, kind);
        let answer = self
            .ask(
                &packet::udp(self.src, port, self.dst, DNS, &question),
                |p| {
                    let head = p.payload.get(..4)?;
                    let ours = p.protocol == packet::UDP
                        && head[..2] == DNS.to_be_bytes()
                        && head[2..] == port.to_be_bytes();
                    let message = p.payload.get(8..)?;
                    (ours && message.len() >= 12 && message[..2] == id.to_be_bytes())
                        .then(|| message.to_vec())
                },
            )
            .await
            .context("resolve")?;
        Ok(json!({
            "rcode": answer[3] & 15,
            "answers": u16::from_be_bytes([answer[6], answer[7]]),
            "hex": answer.iter().map(|b| format!("{b:02x}")).collect::<String>(),
        }))
    }

    /// Sends a packet, again every second for 10 s, until `ok` takes an answer
    /// that comes from the exit's inner address with a right checksum.
    async fn ask<T>(
        &self,
        question: &[u8],
        ok: impl Fn(&packet::Packet) -> Option<T>,
    ) -> Result<T> {
        for _ in 0..10 {
            let mut b = self.pool.get();
            b.buf_mut().clear();
            b.buf_mut().extend_from_slice(question);
            self.client.send(b).await.context("send")?;
            let until = Instant::now() + Duration::from_secs(1);
            while let Ok(received) = timeout(until - Instant::now(), self.client.recv()).await {
                let received = received.context("receive")?;
                let Some(p) = packet::parse(&received) else {
                    continue;
                };
                if p.src != self.dst || p.dst != self.src {
                    continue;
                }
                if let Some(answer) = ok(&p) {
                    if !packet::sums(&p) {
                        bail!("answer with a wrong checksum");
                    }
                    return Ok(answer);
                }
            }
        }
        bail!("no answer")
    }
}
