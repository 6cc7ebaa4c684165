//! The untagged packets that a connection starts with (manual 55.7, `StartupMessage` and
//! its three special forms).

use super::{Fields, Malformed};
use crate::protocol::CancelKey;

/// PostgreSQL's own bound on a start-up packet (`MAX_STARTUP_PACKET_LENGTH`).
pub const MAX_STARTUP: usize = 10_000;

/// Bytes of a cancel key's secret: protocol 3.0 has four, 3.2 up to 256.
pub const KEY_LENGTHS: std::ops::RangeInclusive<usize> = 4..=256;

const CANCEL: i32 = 80_877_102;
const SSL: i32 = 80_877_103;
const GSSENC: i32 = 80_877_104;

/// What a client may say first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Packet {
    /// Asks for TLS.
    Ssl,
    /// Asks for GSSAPI encryption.
    Gssenc,
    /// Asks to cancel another connection's statement.
    Cancel(CancelKey),
    /// Opens a session.
    Startup {
        /// The minor version of protocol 3.
        minor: u16,
        /// Names and values, in the order sent.
        parameters: Vec<(String, String)>,
    },
}

/// Reads one start-up packet; returns it with its length on the wire.
pub fn read(input: &[u8]) -> Result<Option<(Packet, usize)>, Malformed> {
    let Some((word, _)) = input.split_first_chunk::<4>() else {
        return Ok(None);
    };
    let len = usize::try_from(i32::from_be_bytes(*word)).map_err(|_| Malformed::Length)?;
    if len < 8 {
        return Err(Malformed::Length);
    }
    if len > MAX_STARTUP {
        return Err(Malformed::TooLong);
    }
    let Some(body) = input.get(4..len) else {
        return Ok(None);
    };
    let mut fields = Fields::of_body(body);
    let packet = match fields.int32()? {
        SSL => {
            fields.end()?;
            Packet::Ssl
        }
        GSSENC => {
            fields.end()?;
            Packet::Gssenc
        }
        CANCEL => cancel(fields)?,
        version if version >> 16 == 3 => Packet::Startup {
            minor: u16::try_from(version & 0xffff).map_err(|_| Malformed::Startup)?,
            parameters: parameters(fields)?,
        },
        _ => return Err(Malformed::Startup),
    };
    Ok(Some((packet, len)))
}

fn cancel(mut fields: Fields<'_>) -> Result<Packet, Malformed> {
    let process = fields.int32()?;
    let secret = fields.rest();
    if !KEY_LENGTHS.contains(&secret.len()) {
        return Err(Malformed::Length);
    }
    Ok(Packet::Cancel(CancelKey {
        process,
        secret: secret.to_vec(),
    }))
}

fn parameters(mut fields: Fields<'_>) -> Result<Vec<(String, String)>, Malformed> {
    let mut parameters = Vec::new();
    loop {
        let name = fields.text()?;
        if name.is_empty() {
            fields.end()?;
            return Ok(parameters);
        }
        parameters.push((name.to_owned(), fields.text()?.to_owned()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn startup(body: &[u8]) -> Vec<u8> {
        let mut packet = u32::try_from(body.len() + 8)
            .expect("short")
            .to_be_bytes()
            .to_vec();
        packet.extend(196_608_i32.to_be_bytes());
        packet.extend(body);
        packet
    }

    #[test]
    fn every_cut_is_incomplete() {
        let packet = startup(b"user\0agent\0database\0shop\0\0");
        for cut in 0..packet.len() {
            assert_eq!(read(&packet[..cut]), Ok(None), "cut at {cut}");
        }
        let (read, len) = read(&packet).expect("valid").expect("whole");
        assert_eq!(len, packet.len());
        let pairs = [("user", "agent"), ("database", "shop")];
        let parameters = pairs
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .to_vec();
        assert_eq!(
            read,
            Packet::Startup {
                minor: 0,
                parameters
            }
        );
    }

    #[test]
    fn broken_packets_are_errors() {
        assert_eq!(read(&startup(b"user\0agent\0")), Err(Malformed::Field));
        assert_eq!(
            read(&startup(b"user\0agent\0\0x")),
            Err(Malformed::Trailing)
        );
        assert_eq!(read(&[0, 0, 0, 7]), Err(Malformed::Length));
        assert_eq!(read(&[0xff, 0xff, 0xff, 0xff]), Err(Malformed::Length));
        assert_eq!(read(&[0x7f, 0xff, 0xff, 0xff]), Err(Malformed::TooLong));
        assert_eq!(read(b"GET / HTTP/1.1\r\n"), Err(Malformed::TooLong));
        assert_eq!(read(&[0, 0, 0, 8, 0, 2, 0, 0]), Err(Malformed::Startup));
    }

    #[test]
    fn a_cancel_key_has_its_length_checked() {
        let key = |secret: &[u8]| {
            let mut packet = u32::try_from(12 + secret.len())
                .expect("short")
                .to_be_bytes()
                .to_vec();
            packet.extend(CANCEL.to_be_bytes());
            packet.extend(7_i32.to_be_bytes());
            packet.extend(secret);
            packet
        };
        assert_eq!(read(&key(&[1, 2, 3])), Err(Malformed::Length));
        let expected = Packet::Cancel(CancelKey {
            process: 7,
            secret: vec![1, 2, 3, 4],
        });
        assert_eq!(read(&key(&[1, 2, 3, 4])), Ok(Some((expected, 16))));
    }
}
