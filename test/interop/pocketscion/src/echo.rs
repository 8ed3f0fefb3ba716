//! A UDP echo server on the SDK's stack.

use anyhow::{Context, Result};

use crate::{args::Args, stack};

/// Prints its address and sends every datagram back until standard input ends.
pub async fn run(args: &Args) -> Result<()> {
    let stack = stack::build(args).await?;
    let socket = stack.bind(None).await.context("bind")?;
    println!("{}", stack::address(socket.local_addr()));
    let echo = async {
        let mut buf = vec![0; 65535];
        loop {
            let (n, from) = socket.recv_from(&mut buf).await.context("receive")?;
            if let Err(e) = socket.send_to(&buf[..n], from).await {
                eprintln!("send to {from}: {e}");
            }
        }
    };
    tokio::select! {
        failed = echo => failed,
        () = stack::input_end() => Ok(()),
    }
}
