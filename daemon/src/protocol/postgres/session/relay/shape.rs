//! The shape of each message of the server (manual 55.7): a server whose messages do not have
//! it may be read in two ways, by the gate and by the agent.
//!
//! Rows and copy data are not here: they stream past and are counted only.

use crate::protocol::postgres::codec::{Fields, Malformed};

/// Bytes of a RowDescription for each field, behind its name.
const FIELD: usize = 18;

/// Whether the body of a message of this type has the shape that the type says; true for
/// types that are none of the server's.
pub(super) fn fits(tag: u8, body: &[u8]) -> bool {
    match tag {
        b'1' | b'2' | b'3' | b'n' | b's' | b'I' | b'c' => body.is_empty(),
        b'Z' => matches!(body, b"I" | b"T" | b"E"),
        b'C' => strings(body, 1).is_ok(),
        b'S' => strings(body, 2).is_ok(),
        b'A' => body.get(4..).is_some_and(|texts| strings(texts, 2).is_ok()),
        b'E' | b'N' => error_or_notice(body).is_ok(),
        b'T' => fields(body).is_some(),
        b't' => counted(body, 4),
        b'G' | b'H' => body.get(1..).is_some_and(|formats| counted(formats, 2)),
        b'V' => value(body),
        _ => true,
    }
}

/// How many fields a RowDescription has.
pub(super) fn fields(body: &[u8]) -> Option<u16> {
    let (count, rest) = count(body)?;
    let mut left = Fields::of_body(rest);
    for _ in 0..count {
        left.bytes().ok()?;
        left = Fields::of_body(left.rest().get(FIELD..)?);
    }
    left.end().is_ok().then_some(count)
}

/// A 16-bit number in front of something.
pub(super) fn count(body: &[u8]) -> Option<(u16, &[u8])> {
    let (count, rest) = body.split_first_chunk::<2>()?;
    Some((u16::from_be_bytes(*count), rest))
}

fn counted(body: &[u8], size: usize) -> bool {
    count(body).is_some_and(|(count, rest)| rest.len() == usize::from(count) * size)
}

fn strings(body: &[u8], count: usize) -> Result<(), Malformed> {
    let mut fields = Fields::of_body(body);
    for _ in 0..count {
        fields.bytes()?;
    }
    fields.end()
}

fn error_or_notice(body: &[u8]) -> Result<(), Malformed> {
    let mut fields = Fields::of_body(body);
    while fields.byte()? != 0 {
        fields.bytes()?;
    }
    fields.end()
}

/// The length of a value and the value; none for NULL.
fn value(body: &[u8]) -> bool {
    let mut fields = Fields::of_body(body);
    match fields.int32() {
        Ok(-1) => fields.end().is_ok(),
        Ok(length) => usize::try_from(length).is_ok_and(|length| fields.rest().len() == length),
        Err(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_type_has_its_shape() {
        let one_field = [&[0, 1][..], b"x\0", &[0; FIELD]].concat();
        let two_fields = [&[0, 2][..], b"x\0", &[0; FIELD], b"\0", &[0; FIELD]].concat();
        let right: [(u8, &[u8]); 18] = [
            (b'1', b""),
            (b'Z', b"T"),
            (b'C', b"SELECT 1\0"),
            (b'S', b"a\0b\0"),
            (b'A', b"\0\0\0\x07a\0b\0"),
            (b'E', b"SERROR\0\0"),
            (b'N', b"\0"),
            (b'T', &[0, 0]),
            (b'T', &one_field),
            (b'T', &two_fields),
            (b't', &[0, 0]),
            (b't', &[0, 1, 0, 0, 0, 23]),
            (b'G', &[0, 0, 0]),
            (b'H', &[1, 0, 1, 0, 1]),
            (b'V', &[0xff; 4]),
            (b'V', &[0, 0, 0, 1, 9]),
            (b'V', &[0, 0, 0, 0]),
            (b'?', b"anything"),
        ];
        for (tag, body) in right {
            assert!(fits(tag, body), "{} {body:?}", char::from(tag));
        }
        // One byte more or less is wrong for each of them.
        for (tag, body) in right.iter().filter(|(tag, _)| *tag != b'?') {
            let longer = [body, &[7][..]].concat();
            assert!(!fits(*tag, &longer), "{} longer", char::from(*tag));
            if let Some((_, shorter)) = body.split_last() {
                assert!(!fits(*tag, shorter), "{} shorter", char::from(*tag));
            }
        }
        assert!(!fits(b'Z', b"X") && !fits(b'Z', b""));
        assert!(!fits(b'T', &[0xff; 2]) && !fits(b't', &[0x80, 0]));
        assert!(!fits(b'V', &[0xff, 0xff, 0xff, 0xfe]));
        assert_eq!(fields(&two_fields), Some(2));
    }
}
