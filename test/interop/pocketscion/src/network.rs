//! A SCION network in one process.

use std::io::{BufRead, Write};

use anyhow::{Context, Result, bail};
use pocketscion::util::topologies::{
    IA132, IA212, PsSetup, UnderlayType,
    minimal::{minimal_topology, two_path_topology},
};
use sciparse::identifier::isd_asn::IsdAsn;
use serde_json::{Value, json};
use snap_tokens::v0::{dummy_snap_token, dummy_snap_token_with_validity};

use crate::args::Args;

/// Runs a network until standard input ends. It answers each line of it:
///
/// ```text
/// token [SECONDS]                 {"token": "…"}
/// link ISD-AS INTERFACE up|down   {"was": true}
/// quit                            ends
/// ```
pub async fn run(args: &Args) -> Result<()> {
    let underlay = match args.get("underlay") {
        None | Some("snap") => UnderlayType::Snap,
        Some("udp") => UnderlayType::Udp,
        Some(other) => bail!("--underlay {other}: want snap or udp"),
    };
    let network = match args.get("topology") {
        None | Some("two-path") => two_path_topology(underlay).await,
        Some("minimal") => minimal_topology(underlay).await,
        Some(other) => bail!("--topology {other}: want two-path or minimal"),
    };
    say(&describe(&network)?)?;

    let (lines, mut wishes) = tokio::sync::mpsc::channel(16);
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            if lines.blocking_send(line).is_err() {
                return;
            }
        }
    });
    while let Some(line) = wishes.recv().await {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            ["quit"] => break,
            wish => {
                say(&answer(&network, wish).unwrap_or_else(|e| json!({"error": format!("{e:#}")})))?
            }
        }
    }
    Ok(())
}

/// A token that PocketSCION's SNAPs accept, with an id of its own.
pub fn token(seconds: Option<u64>) -> String {
    match seconds {
        Some(seconds) => dummy_snap_token_with_validity(seconds),
        None => dummy_snap_token(),
    }
}

fn describe(network: &PsSetup) -> Result<Value> {
    let state = network.runtime.state();
    let mut ases = serde_json::Map::new();
    for ia in [IA132, IA212] {
        let api = network
            .endhost_api(ia)
            .with_context(|| format!("no endhost API in {ia}"))?;
        ases.insert(
            ia.to_string(),
            json!({"endhost_api": api.as_str(), "token": token(None)}),
        );
    }
    let mut snaps = Vec::new();
    for id in state.snaps_ids() {
        snaps.push(json!({
            "control": network.runtime.snap_control_addr(id).map(|a| a.to_string()),
            "data_plane": network.runtime.snap_data_plane_addr(id).map(|a| a.to_string()),
        }));
    }
    Ok(json!({
        "ases": ases,
        "snaps": snaps,
        "token_key": pem::encode(&state.snap_token_public_key()),
    }))
}

fn answer(network: &PsSetup, wish: &[&str]) -> Result<Value> {
    match wish {
        ["token"] => Ok(json!({"token": token(None)})),
        ["token", seconds] => Ok(json!({"token": token(Some(seconds.parse()?))})),
        ["link", ia, interface, direction @ ("up" | "down")] => {
            let ia: IsdAsn = ia.parse()?;
            let was = network
                .runtime
                .set_link_state(ia, interface.parse()?, *direction == "up");
            Ok(json!({"was": was.with_context(|| format!("{ia} has no interface {interface}"))?}))
        }
        _ => bail!("want: token [SECONDS], link ISD-AS INTERFACE up|down, quit"),
    }
}

fn say(value: &Value) -> Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{value}")?;
    out.flush()?;
    Ok(())
}
