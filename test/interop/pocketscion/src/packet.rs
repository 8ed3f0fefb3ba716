//! The few IP packets that the inner tunnel's peers need.
//!
//! ```text
//! IPv6   0 version…   4 payload length   6 next header   7 hops
//!        8 source    24 destination     40 payload
//! UDP    0 source port   2 destination port   4 length   6 checksum
//! ICMPv6 0 type   1 code   2 checksum   4 identifier   6 sequence
//! ```

/// Next header values.
pub const UDP: u8 = 17;
/// ICMP for IPv6.
pub const ICMP: u8 = 58;
const ECHO_REQUEST: u8 = 128;
const ECHO_REPLY: u8 = 129;

/// A view of an IPv6 packet without extension headers.
pub struct Packet<'a> {
    /// Next header.
    pub protocol: u8,
    /// Source address.
    pub src: [u8; 16],
    /// Destination address.
    pub dst: [u8; 16],
    /// What follows the IPv6 header.
    pub payload: &'a [u8],
}

/// Parses an IPv6 packet; none if it is not one or is cut.
pub fn parse(b: &[u8]) -> Option<Packet<'_>> {
    if b.len() < 40 || b[0] >> 4 != 6 {
        return None;
    }
    let length = usize::from(u16::from_be_bytes([b[4], b[5]]));
    Some(Packet {
        protocol: b[6],
        src: b[8..24].try_into().ok()?,
        dst: b[24..40].try_into().ok()?,
        payload: b.get(40..40 + length)?,
    })
}

/// The answer of a far end to a packet: a UDP packet turned round, an echo
/// request answered, nothing for all else.
pub fn answer(b: &[u8]) -> Option<Vec<u8>> {
    let p = parse(b)?;
    let mut back = b[..40 + p.payload.len()].to_vec();
    back[8..24].copy_from_slice(&p.dst);
    back[24..40].copy_from_slice(&p.src);
    match p.protocol {
        // Sums do not mind the order, so the checksum stays right.
        UDP if p.payload.len() >= 8 => {
            back[40..42].copy_from_slice(&p.payload[2..4]);
            back[42..44].copy_from_slice(&p.payload[..2]);
            Some(back)
        }
        ICMP if p.payload.len() >= 8 && p.payload[0] == ECHO_REQUEST => {
            back[40] = ECHO_REPLY;
            back[42..44].fill(0);
            let sum = checksum(&p.dst, &p.src, ICMP, &back[40..]);
            back[42..44].copy_from_slice(&sum.to_be_bytes());
            Some(back)
        }
        _ => None,
    }
}

/// An ICMPv6 echo request.
pub fn ping(src: [u8; 16], dst: [u8; 16], identifier: u16, sequence: u16, data: &[u8]) -> Vec<u8> {
    let mut payload = vec![ECHO_REQUEST, 0, 0, 0];
    payload.extend_from_slice(&identifier.to_be_bytes());
    payload.extend_from_slice(&sequence.to_be_bytes());
    payload.extend_from_slice(data);
    ipv6(src, dst, ICMP, payload, 2)
}

/// Whether a packet is the echo reply to a ping with this data.
pub fn is_reply(p: &Packet, identifier: u16, sequence: u16, data: &[u8]) -> bool {
    p.protocol == ICMP
        && p.payload.len() == 8 + data.len()
        && p.payload[0] == ECHO_REPLY
        && p.payload[4..6] == identifier.to_be_bytes()
        && p.payload[6..8] == sequence.to_be_bytes()
        && p.payload[8..] == *data
}

/// A UDP datagram.
pub fn udp(src: [u8; 16], sport: u16, dst: [u8; 16], dport: u16, data: &[u8]) -> Vec<u8> {
    let mut payload = Vec::with_capacity(8 + data.len());
    payload.extend_from_slice(&sport.to_be_bytes());
    payload.extend_from_slice(&dport.to_be_bytes());
    payload.extend_from_slice(&((8 + data.len()) as u16).to_be_bytes());
    payload.extend_from_slice(&[0, 0]);
    payload.extend_from_slice(data);
    ipv6(src, dst, UDP, payload, 6)
}

/// Whether the checksum of a UDP or ICMPv6 packet is right.
pub fn sums(p: &Packet) -> bool {
    checksum(&p.src, &p.dst, p.protocol, p.payload) == 0
}

/// A DNS question for an address record of class IN; `kind` 1 is A, 28 AAAA.
pub fn question(id: u16, name: &str, kind: u16) -> Vec<u8> {
    let mut q = id.to_be_bytes().to_vec();
    q.extend_from_slice(&[1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    for label in name.trim_end_matches('.').split('.') {
        q.push(label.len() as u8);
        q.extend_from_slice(label.as_bytes());
    }
    q.push(0);
    q.extend_from_slice(&kind.to_be_bytes());
    q.extend_from_slice(&[0, 1]);
    q
}

fn ipv6(
    src: [u8; 16],
    dst: [u8; 16],
    protocol: u8,
    mut payload: Vec<u8>,
    sum_at: usize,
) -> Vec<u8> {
    let sum = match checksum(&src, &dst, protocol, &payload) {
        0 => 0xffff,
        sum => sum,
    };
    payload[sum_at..sum_at + 2].copy_from_slice(&sum.to_be_bytes());
    let mut b = vec![0x60, 0, 0, 0];
    b.extend_from_slice(&(payload.len() as u16).to_be_bytes());
    b.extend_from_slice(&[protocol, 64]);
    b.extend_from_slice(&src);
    b.extend_from_slice(&dst);
    b.extend_from_slice(&payload);
    b
}

/// The Internet checksum with the IPv6 pseudo header (RFC 8200 §8.1). Over a
/// packet that carries its sum it is 0.
fn checksum(src: &[u8; 16], dst: &[u8; 16], protocol: u8, payload: &[u8]) -> u16 {
    let mut sum = payload.len() as u64 + u64::from(protocol);
    for part in [&src[..], &dst[..], payload] {
        for pair in part.chunks(2) {
            sum += u64::from(u16::from_be_bytes([pair[0], *pair.get(1).unwrap_or(&0)]));
        }
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}
