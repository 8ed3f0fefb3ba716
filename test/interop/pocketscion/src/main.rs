//! Peers of snapproxy that nobody here wrote: programs on the Rust SCION SDK.
//!
//! Every program prints one line when it is ready, takes further wishes a line
//! at a time from standard input, and ends when standard input ends, so that
//! none outlives the test that started it.

mod args;
mod client;
mod echo;
mod edge_client;
mod far_end;
mod gateway;
mod keys;
mod network;
mod packet;
mod probe;
mod stack;

use std::process::ExitCode;

use anyhow::{Result, bail};

use crate::args::Args;

const USAGE: &str = "usage: interop PROGRAM [--FLAG VALUE]…
  network      [--topology two-path|minimal] [--underlay snap|udp]
  token        [--seconds N]
  echo         --endhost-api URL [--token TOKEN]
  client       --endhost-api URL [--token TOKEN] --to IA,IP:PORT [--count N] [--min N] [--max N] [--window N] [--pace-ms N] [--wait-ms N]
  far-end      --endhost-api URL [--token TOKEN] [--fragment N]
  edge-client  --endhost-api URL [--token TOKEN] --exit IA,IP:PORT --exit-key KEY [--key KEY] [--name NAME] [--fragment N]
  gateway      [--listen IP:PORT] [--key KEY] [--isd-as IA]
  rebind       --endhost-api URL [--token TOKEN] [--times N] [--wait-ms N]
  verify       --jwks URL
  dispatch     --bytes N
  key          a new private key and its public key";

#[tokio::main]
async fn main() -> ExitCode {
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("interop: {e:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<()> {
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_env("INTEROP_LOG"))
        .with_writer(std::io::stderr)
        .init();
    scion_sdk_utils::rustls::select_ring_crypto_provider();

    let (program, args) = Args::from_env()?;
    match program.as_str() {
        "network" => network::run(&args).await,
        "token" => {
            println!("{}", network::token(args.number("seconds")?));
            Ok(())
        }
        "echo" => echo::run(&args).await,
        "client" => client::run(&args).await,
        "far-end" => far_end::run(&args).await,
        "edge-client" => edge_client::run(&args).await,
        "gateway" => gateway::run(&args).await,
        "rebind" => probe::rebind(&args).await,
        "verify" => probe::verify(&args).await,
        "dispatch" => probe::dispatch(&args),
        "key" => {
            let secret = keys::random();
            println!(
                "{} {}",
                keys::text(secret.as_bytes()),
                keys::text(keys::public(&secret).as_bytes())
            );
            Ok(())
        }
        _ => bail!("{USAGE}"),
    }
}
