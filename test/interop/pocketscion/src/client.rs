//! A UDP client on the SDK's stack that checks every echo byte for byte.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use serde_json::json;
use tokio::time::timeout;

use crate::{args::Args, stack};

/// Sends `--count` datagrams of `--min` to `--max` bytes to `--to`, `--window`
/// of them on the way at once, none of them twice, and prints what came back.
///
/// They leave `--pace-ms` apart at least. A datagram that is not back after `--wait-ms` is lost. From 8 bytes on a
/// datagram carries its number; shorter ones are sent one at a time.
pub async fn run(args: &Args) -> Result<()> {
    let to = stack::parse_address(args.want("to")?)?;
    let count: u64 = args.number_or("count", 1000)?;
    let (min, max): (usize, usize) = (args.number_or("min", 1)?, args.number_or("max", 1200)?);
    let window: usize = args.number_or("window", 16)?;
    let pace = Duration::from_millis(args.number_or("pace-ms", 0)?);
    let patience = Duration::from_millis(args.number_or("wait-ms", 2000)?);

    let begin = Instant::now();
    let stack = stack::build(args).await?;
    let socket = stack.bind(None).await.context("bind")?;
    let bound = begin.elapsed();

    let mut tally = Tally::default();
    let mut waiting: HashMap<u64, (Vec<u8>, Instant)> = HashMap::new();
    let mut buf = vec![0; 65535];
    let mut next = 0;
    let mut due = Instant::now();
    while next < count || !waiting.is_empty() {
        let short = waiting.values().any(|(sent, _)| sent.len() < 8);
        while next < count && waiting.len() < window && !short && Instant::now() >= due {
            let size = min + (next as usize * 7919) % (max - min + 1);
            if size < 8 && !waiting.is_empty() {
                break;
            }
            let payload = pattern(next, size);
            socket
                .send_to(&payload, to)
                .await
                .with_context(|| format!("send {size} bytes"))?;
            tally.sent_bytes += size;
            waiting.insert(next, (payload, Instant::now()));
            next += 1;
            due = due.max(Instant::now() - pace) + pace;
            if size < 8 {
                break;
            }
        }
        let pause = if pace.is_zero() {
            Duration::from_millis(50)
        } else {
            pace.min(Duration::from_millis(50))
        };
        if let Ok(received) = timeout(pause, socket.recv_from(&mut buf)).await {
            let (n, from) = received.context("receive")?;
            if from != to {
                tally.strangers += 1;
                continue;
            }
            let key = match buf.get(..8.min(n)) {
                Some(head) if n >= 8 => u64::from_be_bytes(head.try_into()?),
                _ => waiting
                    .iter()
                    .find(|(_, (sent, _))| sent.len() == n)
                    .map_or(u64::MAX, |(k, _)| *k),
            };
            match waiting.remove(&key) {
                Some((sent, at)) if sent == buf[..n] => tally.heard(at.elapsed()),
                Some(_) => tally.corrupt += 1,
                None => tally.unexpected += 1,
            }
        }
        let before = waiting.len();
        waiting.retain(|_, (_, at)| at.elapsed() < patience);
        tally.lost += before - waiting.len();
    }
    println!(
        "{}",
        json!({
            "local": stack::address(socket.local_addr()),
            "sent": count,
            "sent_bytes": tally.sent_bytes,
            "echoed": tally.echoed,
            "lost": tally.lost,
            "corrupt": tally.corrupt,
            "unexpected": tally.unexpected,
            "strangers": tally.strangers,
            "bind_ms": bound.as_millis() as u64,
            "total_ms": begin.elapsed().as_millis() as u64,
            "longest_ms": tally.longest.as_millis() as u64,
            "longest_gap_ms": tally.longest_gap.as_millis() as u64,
            "longest_gap_at_ms": tally.longest_gap_at.as_millis() as u64,
        })
    );
    Ok(())
}

#[derive(Default)]
struct Tally {
    sent_bytes: usize,
    echoed: u64,
    lost: usize,
    corrupt: u64,
    unexpected: u64,
    strangers: u64,
    longest: Duration,
    longest_gap: Duration,
    longest_gap_at: Duration, // its end, counted from the first echo
    begin: Option<Instant>,
    last: Option<Instant>,
}

impl Tally {
    fn heard(&mut self, after: Duration) {
        self.echoed += 1;
        self.longest = self.longest.max(after);
        let now = Instant::now();
        let begin = *self.begin.get_or_insert(now);
        if let Some(last) = self.last.replace(now)
            && now - last > self.longest_gap
        {
            self.longest_gap = now - last;
            self.longest_gap_at = now - begin;
        }
    }
}

/// The payload of a datagram: its number, and bytes that follow from it.
fn pattern(number: u64, size: usize) -> Vec<u8> {
    let mut payload = number.to_be_bytes().to_vec();
    let mut state = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    while payload.len() < size {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        payload.extend_from_slice(&state.to_le_bytes());
    }
    if size < 8 {
        payload.drain(..8 - size);
    }
    payload.truncate(size);
    payload
}
