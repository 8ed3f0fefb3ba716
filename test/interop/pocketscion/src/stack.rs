//! A SCION stack of the SDK, and addresses as snapproxy writes them.

use anyhow::{Context, Result, bail};
use scion_stack::{ScionStack, ScionStackBuilder, stack::builder::PreferredUnderlay};
use sciparse::address::ip_socket_addr::ScionSocketIpAddr;
use tokio::io::AsyncReadExt;

use crate::args::Args;

/// Builds the stack that `--endhost-api`, `--token` and `--prefer` describe.
pub async fn build(args: &Args) -> Result<ScionStack> {
    let url = args.want("endhost-api")?;
    let mut builder = ScionStackBuilder::new()
        .with_endhost_api(url.parse().with_context(|| format!("endhost API {url}"))?);
    builder = match args.get("prefer") {
        None | Some("snap") => builder.with_preferred_underlay(PreferredUnderlay::Snap),
        Some("udp") => builder.with_preferred_underlay(PreferredUnderlay::Udp),
        Some(other) => bail!("--prefer {other}: want snap or udp"),
    };
    if let Some(token) = args.get("token") {
        builder = builder.with_auth_token(token.to_owned());
    }
    builder.build().await.context("build the stack")
}

/// Parses `ISD-AS,IP:PORT`, or the SDK's own `[ISD-AS,IP]:PORT`.
pub fn parse_address(text: &str) -> Result<ScionSocketIpAddr> {
    if text.starts_with('[') {
        return text.parse().with_context(|| format!("address {text}"));
    }
    let (ia, at) = text
        .split_once(',')
        .with_context(|| format!("address {text}: no comma"))?;
    Ok(ScionSocketIpAddr::from_std(
        ia.parse().with_context(|| format!("address {text}"))?,
        at.parse().with_context(|| format!("address {text}"))?,
    ))
}

/// Writes `ISD-AS,IP:PORT`.
pub fn address(addr: ScionSocketIpAddr) -> String {
    format!("{},{}", addr.isd_asn(), addr.socket_addr())
}

/// Returns when standard input has ended.
pub async fn input_end() {
    let mut stdin = tokio::io::stdin();
    let mut buf = [0; 256];
    while matches!(stdin.read(&mut buf).await, Ok(n) if n > 0) {}
}
