//! Small programs that show what the SDK does where its code leaves room for
//! doubt.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use scion_sdk_observability::metrics::registry::MetricsRegistry;
use sciparse::{core::view::View, packet::view::ScionPacketView};
use serde_json::json;
use snap_control::server::{jwks_key_store::JwksKeyStore, token_verifier::SnapTokenVerifier};
use snap_dataplane::{
    dispatcher::Dispatcher,
    tunnel_gateway::{
        dispatcher::TunnelGatewayDispatcher, metrics::TunnelGatewayDispatcherMetrics,
    },
};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use crate::{args::Args, stack};

/// Binds `--times` sockets of one stack, one after the other and `--wait-ms`
/// each, and prints a line on each.
pub async fn rebind(args: &Args) -> Result<()> {
    let wait = Duration::from_millis(args.number_or("wait-ms", 15_000)?);
    let stack = stack::build(args).await?;
    for _ in 0..args.number_or("times", 2)? {
        let begin = Instant::now();
        let bound = timeout(wait, stack.bind(None)).await;
        let ms = begin.elapsed().as_millis() as u64;
        println!(
            "{}",
            match bound {
                Ok(Ok(socket)) => json!({"bound": stack::address(socket.local_addr()), "ms": ms}),
                Ok(Err(e)) => json!({"error": format!("{:#}", anyhow::Error::from(e)), "ms": ms}),
                Err(_) => json!({"error": "timeout", "ms": ms}),
            }
        );
    }
    Ok(())
}

/// Verifies each token that standard input holds, a line each, with the keys at
/// `--jwks`, as a SNAP of the SDK does.
pub async fn verify(args: &Args) -> Result<()> {
    let store = JwksKeyStore::new(
        args.want("jwks")?.parse()?,
        Duration::from_secs(3600),
        CancellationToken::new(),
    );
    let verifier = SnapTokenVerifier::from_jwks_store(Arc::new(store));
    println!("ready");
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    while let Some(token) = lines.next_line().await? {
        println!(
            "{}",
            match verifier.verify(&token).await {
                Ok(_) => json!({"ok": true}),
                Err(e) => json!({"ok": false, "error": e.to_string()}),
            }
        );
    }
    Ok(())
}

/// Gives the gateway's dispatcher a SCION packet of `--bytes` for a tunnel, and
/// prints whether it panics.
pub fn dispatch(args: &Args) -> Result<()> {
    let size: usize = args.number_or("bytes", 1000)?;
    let packet = udp_packet(size)?;
    let (dispatcher, _receiver) =
        TunnelGatewayDispatcher::new(TunnelGatewayDispatcherMetrics::new(&MetricsRegistry::new()));
    let (view, _) = ScionPacketView::try_from_slice(&packet)
        .ok()
        .context("no SCION packet")?;
    std::panic::set_hook(Box::new(|_| {}));
    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        dispatcher.try_dispatch(view)
    }));
    println!(
        "{}",
        json!({"bytes": view.as_slice().len(), "panicked": outcome.is_err()})
    );
    Ok(())
}

/// A SCION/UDP packet of a size, between hosts of one AS.
fn udp_packet(size: usize) -> Result<Vec<u8>> {
    const HEADER: usize = 36;
    let Some(payload) = size.checked_sub(HEADER).filter(|n| *n >= 8) else {
        bail!("{size} bytes are too few");
    };
    let mut b = vec![0, 0, 0, 1, 17, (HEADER / 4) as u8];
    b.extend_from_slice(&(payload as u16).to_be_bytes());
    b.extend_from_slice(&[0, 0, 0, 0]); // empty path, IPv4 hosts
    for _ in 0..2 {
        b.extend_from_slice(&[0, 1, 0xff, 0, 0, 0, 1, 0x32]);
    }
    b.extend_from_slice(&[127, 0, 0, 1, 127, 0, 0, 1]);
    for word in [40_000, 40_001, payload as u16, 0] {
        b.extend_from_slice(&u16::to_be_bytes(word));
    }
    b.resize(size, 0);
    Ok(b)
}
