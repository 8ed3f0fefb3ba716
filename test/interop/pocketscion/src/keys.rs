//! X25519 keys in the form of snapproxy, and the inner addresses they own.

use std::io::Read;

use ana_gotatun::x25519::{PublicKey, StaticSecret};
use anyhow::{Context, Result, bail};
use base64::{Engine, engine::general_purpose::STANDARD};
use blake2::{Blake2s256, Digest};

/// The /112 that a key owns: fd53:4e41::/32 and the first 80 bits of its
/// BLAKE2s-256 hash. The last 16 bits tell processes apart; 0 is the server.
pub type Prefix = [u8; 14];

/// The prefix of a public key.
pub fn prefix(key: &PublicKey) -> Prefix {
    let mut prefix = [0xfd, 0x53, 0x4e, 0x41, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    prefix[4..].copy_from_slice(&Blake2s256::digest(key.as_bytes())[..10]);
    prefix
}

/// The inner address of one process that uses a key.
pub fn inner(key: &PublicKey, process: u16) -> [u8; 16] {
    let mut addr = [0; 16];
    addr[..14].copy_from_slice(&prefix(key));
    addr[14..].copy_from_slice(&process.to_be_bytes());
    addr
}

/// A new private key.
pub fn random() -> StaticSecret {
    let mut bytes = [0; 32];
    std::fs::File::open("/dev/urandom")
        .and_then(|mut f| f.read_exact(&mut bytes))
        .expect("the kernel has random numbers");
    StaticSecret::from(bytes)
}

/// The private key that text holds, or a new one if there is no text.
pub fn secret(text: Option<&str>) -> Result<StaticSecret> {
    match text {
        Some(text) => Ok(StaticSecret::from(parse(text)?)),
        None => Ok(random()),
    }
}

/// The public key of a private key.
pub fn public(secret: &StaticSecret) -> PublicKey {
    PublicKey::from(secret)
}

/// A key as text: base64, 44 characters.
pub fn text(key: &[u8; 32]) -> String {
    STANDARD.encode(key)
}

/// The 32 bytes of a key in base64.
pub fn parse(text: &str) -> Result<[u8; 32]> {
    let bytes = STANDARD.decode(text.trim()).context("key is not base64")?;
    match bytes.try_into() {
        Ok(key) => Ok(key),
        Err(other) => bail!("key has {} bytes, not 32", Vec::<u8>::len(&other)),
    }
}
