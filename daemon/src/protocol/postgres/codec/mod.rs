//! Frames of the PostgreSQL frontend/backend protocol (manual, chapter 55).
//!
//! Reads borrowed bytes and never allocates. "Not all there yet" is `Ok(None)`; broken
//! bytes are a [`Malformed`], and the two are never confused. Building is in [`message`],
//! the start-up phase in [`startup`].

pub mod message;
pub mod startup;

use thiserror::Error;

/// A tag byte and a length, which counts itself (manual 55.7).
pub const HEADER: usize = 5;

/// Bytes that can't be this protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Malformed {
    /// A length below the four bytes that it occupies itself, or negative.
    #[error("message length below 4")]
    Length,
    /// Longer than the gate is willing to hold.
    #[error("message longer than the limit")]
    TooLong,
    /// A field runs past the end of its message, or a string has no end.
    #[error("message field cut short")]
    Field,
    /// The message has bytes behind its last field.
    #[error("bytes behind the last field of a message")]
    Trailing,
    /// Text is not UTF-8 where it must be.
    #[error("text is not valid UTF-8")]
    Encoding,
    /// A start-up packet that no version of the protocol has.
    #[error("unknown start-up packet")]
    Startup,
}

/// The head of a message: its type and its length on the wire, header included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame {
    /// Message type.
    pub tag: u8,
    /// Bytes in all, tag and length word included.
    pub len: usize,
}

/// Reads the head of the message that `input` starts with; the body may still be missing.
pub fn head(input: &[u8]) -> Result<Option<Frame>, Malformed> {
    let Some((&[tag, a, b, c, d], _)) = input.split_first_chunk::<HEADER>() else {
        return Ok(None);
    };
    let len = i32::from_be_bytes([a, b, c, d]);
    match usize::try_from(len) {
        Ok(len) if len >= 4 => Ok(Some(Frame { tag, len: len + 1 })),
        _ => Err(Malformed::Length),
    }
}

/// Reads the head and checks that the whole message is within `limit` and has arrived.
pub fn whole(input: &[u8], limit: usize) -> Result<Option<Frame>, Malformed> {
    match head(input)? {
        Some(frame) if frame.len > limit => Err(Malformed::TooLong),
        Some(frame) if frame.len <= input.len() => Ok(Some(frame)),
        _ => Ok(None),
    }
}

/// Takes fields from the front of a message body.
#[derive(Debug, Clone, Copy)]
pub struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    /// The fields of a whole frame.
    pub fn of_frame(frame: &'a [u8]) -> Self {
        Self(frame.get(HEADER..).unwrap_or_default())
    }

    /// The fields of a body without header.
    pub fn of_body(body: &'a [u8]) -> Self {
        Self(body)
    }

    /// A string up to its NUL, as bytes.
    pub fn bytes(&mut self) -> Result<&'a [u8], Malformed> {
        let end = self.0.iter().position(|&byte| byte == 0);
        let (text, rest) = end
            .and_then(|end| self.0.split_at_checked(end))
            .ok_or(Malformed::Field)?;
        self.0 = rest.get(1..).unwrap_or_default();
        Ok(text)
    }

    /// A string up to its NUL, as UTF-8.
    pub fn text(&mut self) -> Result<&'a str, Malformed> {
        std::str::from_utf8(self.bytes()?).map_err(|_| Malformed::Encoding)
    }

    /// One byte.
    pub fn byte(&mut self) -> Result<u8, Malformed> {
        let (&byte, rest) = self.0.split_first().ok_or(Malformed::Field)?;
        self.0 = rest;
        Ok(byte)
    }

    /// A big-endian 32-bit integer.
    pub fn int32(&mut self) -> Result<i32, Malformed> {
        let (word, rest) = self.0.split_first_chunk::<4>().ok_or(Malformed::Field)?;
        self.0 = rest;
        Ok(i32::from_be_bytes(*word))
    }

    /// Whatever has not been taken.
    pub fn rest(self) -> &'a [u8] {
        self.0
    }

    /// Checks that nothing is left.
    pub fn end(self) -> Result<(), Malformed> {
        if self.0.is_empty() {
            Ok(())
        } else {
            Err(Malformed::Trailing)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_cut_of_a_message_is_incomplete_and_not_an_error() {
        let message = [
            b'Q', 0, 0, 0, 13, b'S', b'E', b'L', b'E', b'C', b'T', b'1', 0, 0,
        ];
        let full = message.len();
        for cut in 0..full {
            assert_eq!(whole(&message[..cut], 100), Ok(None), "cut at {cut}");
        }
        assert_eq!(
            whole(&message, 100),
            Ok(Some(Frame {
                tag: b'Q',
                len: full
            }))
        );
    }

    #[test]
    fn lengths_at_their_edges() {
        let with = |len: i32| {
            let mut bytes = vec![b'Q'];
            bytes.extend(len.to_be_bytes());
            bytes
        };
        for broken in [i32::MIN, -1, 0, 3] {
            assert_eq!(head(&with(broken)), Err(Malformed::Length), "{broken}");
        }
        assert_eq!(whole(&with(4), 100), Ok(Some(Frame { tag: b'Q', len: 5 })));
        assert_eq!(whole(&with(i32::MAX), 100), Err(Malformed::TooLong));
        assert_eq!(whole(&with(99), 100), Ok(None));
        assert_eq!(whole(&with(100), 100), Err(Malformed::TooLong));
    }

    #[test]
    fn fields_never_read_past_the_end() {
        assert_eq!(Fields::of_body(b"name").bytes(), Err(Malformed::Field));
        assert_eq!(Fields::of_body(&[0, 0, 1]).int32(), Err(Malformed::Field));
        assert_eq!(Fields::of_body(&[]).byte(), Err(Malformed::Field));
        let mut fields = Fields::of_body(b"a\0\xff\0rest");
        assert_eq!(fields.text(), Ok("a"));
        assert_eq!(fields.text(), Err(Malformed::Encoding));
        assert_eq!(fields.rest(), b"rest");
        assert_eq!(fields.end(), Err(Malformed::Trailing));
    }
}
