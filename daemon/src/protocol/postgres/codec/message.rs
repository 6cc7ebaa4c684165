//! Builds the messages that the gate itself says, to either side (manual 55.7).

use bytes::{BufMut, BytesMut};

use crate::protocol::CancelKey;

/// SSLRequest, as the gate sends it to the upstream.
pub const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f];

/// How bad an error is for the session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// The statement fails, the session goes on.
    Error,
    /// The session ends.
    Fatal,
}

/// An ErrorResponse of the gate's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ErrorMessage {
    /// Whether the session survives it.
    pub severity: Severity,
    /// SQLSTATE (manual, appendix A).
    pub code: &'static str,
    /// Primary message.
    pub message: String,
    /// Second line; empty for none.
    pub detail: String,
    /// What the agent may do instead; empty for none.
    pub hint: String,
}

impl ErrorMessage {
    /// A fatal error with no detail or hint.
    pub fn fatal(code: &'static str, message: impl Into<String>) -> Self {
        Self {
            severity: Severity::Fatal,
            code,
            message: message.into(),
            detail: String::new(),
            hint: String::new(),
        }
    }

    /// Appends the message to `out` (manual 55.8 for the field letters).
    pub fn write(&self, out: &mut BytesMut) {
        let severity = match self.severity {
            Severity::Error => "ERROR",
            Severity::Fatal => "FATAL",
        };
        framed(out, b'E', |out| {
            let fields = [
                (b'S', severity),
                (b'V', severity),
                (b'C', self.code),
                (b'M', self.message.as_str()),
                (b'D', self.detail.as_str()),
                (b'H', self.hint.as_str()),
            ];
            for (letter, value) in fields {
                if !value.is_empty() {
                    out.put_u8(letter);
                    put_text(out, value);
                }
            }
            out.put_u8(0);
        });
    }
}

/// Writes a string and its NUL; a NUL inside ends it early, as the receiver would read it.
pub fn put_text(out: &mut BytesMut, text: &str) {
    out.extend(text.bytes().take_while(|&byte| byte != 0));
    out.put_u8(0);
}

/// Writes a tagged message whose body `body` appends, with the length filled in behind it.
pub fn framed(out: &mut BytesMut, tag: u8, body: impl FnOnce(&mut BytesMut)) {
    out.put_u8(tag);
    sized(out, body);
}

fn sized(out: &mut BytesMut, body: impl FnOnce(&mut BytesMut)) {
    let mut inner = BytesMut::new();
    body(&mut inner);
    // Our own messages are far below 2 GiB; a length that lies would end the session.
    out.put_i32(i32::try_from(inner.len() + 4).unwrap_or(i32::MAX));
    out.extend_from_slice(&inner);
}

/// StartupMessage for protocol 3.0.
pub fn startup<'a>(out: &mut BytesMut, parameters: impl Iterator<Item = (&'a str, &'a str)>) {
    sized(out, |out| {
        out.put_i32(196_608);
        for (name, value) in parameters {
            put_text(out, name);
            put_text(out, value);
        }
        out.put_u8(0);
    });
}

/// CancelRequest, as the gate sends it to the upstream.
pub fn cancel_request(key: &CancelKey) -> BytesMut {
    let mut out = BytesMut::new();
    sized(&mut out, |out| {
        out.put_i32(80_877_102);
        out.put_i32(key.process);
        out.extend_from_slice(&key.secret);
    });
    out
}

/// SASLInitialResponse.
pub fn sasl_initial(out: &mut BytesMut, mechanism: &str, data: &[u8]) {
    framed(out, b'p', |out| {
        put_text(out, mechanism);
        out.put_i32(i32::try_from(data.len()).unwrap_or(i32::MAX));
        out.extend_from_slice(data);
    });
}

/// PasswordMessage.
pub fn password(out: &mut BytesMut, secret: &[u8]) {
    framed(out, b'p', |out| {
        out.extend_from_slice(secret);
        out.put_u8(0);
    });
}

/// SASLResponse.
pub fn sasl_response(out: &mut BytesMut, data: &[u8]) {
    framed(out, b'p', |out| out.extend_from_slice(data));
}

/// AuthenticationOk.
pub fn authentication_ok(out: &mut BytesMut) {
    framed(out, b'R', |out| out.put_i32(0));
}

/// BackendKeyData.
pub fn backend_key(out: &mut BytesMut, key: &CancelKey) {
    framed(out, b'K', |out| {
        out.put_i32(key.process);
        out.extend_from_slice(&key.secret);
    });
}

/// NegotiateProtocolVersion: only up to this minor version of protocol 3, none of the named
/// options.
pub fn negotiate_version(out: &mut BytesMut, minor: u16, unknown_options: &[&str]) {
    framed(out, b'v', |out| {
        out.put_i32(196_608 + i32::from(minor));
        out.put_i32(i32::try_from(unknown_options.len()).unwrap_or(0));
        for option in unknown_options {
            put_text(out, option);
        }
    });
}

/// Query.
pub fn query(out: &mut BytesMut, text: &str) {
    framed(out, b'Q', |out| put_text(out, text));
}

/// CopyFail.
pub fn copy_fail(out: &mut BytesMut, why: &str) {
    framed(out, b'f', |out| put_text(out, why));
}

/// Parse with no parameter types.
pub fn parse(out: &mut BytesMut, name: &str, text: &str) {
    framed(out, b'P', |out| {
        put_text(out, name);
        put_text(out, text);
        out.put_i16(0);
    });
}

/// Execute with no row limit.
pub fn execute(out: &mut BytesMut, portal: &str) {
    framed(out, b'E', |out| {
        put_text(out, portal);
        out.put_i32(0);
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::postgres::codec::{Fields, whole};

    #[test]
    fn an_error_reads_back_field_by_field() {
        let mut out = BytesMut::new();
        let error = ErrorMessage {
            severity: Severity::Error,
            code: "42501",
            message: "no\0t seen".into(),
            detail: String::new(),
            hint: "ask".into(),
        };
        error.write(&mut out);
        let frame = whole(&out, 1000).expect("valid").expect("whole");
        assert_eq!((frame.tag, frame.len), (b'E', out.len()));
        let mut fields = Fields::of_frame(&out);
        let mut read = Vec::new();
        while let Ok(letter @ 1..) = fields.byte() {
            read.push((letter, fields.text().expect("text")));
        }
        let expected = [
            (b'S', "ERROR"),
            (b'V', "ERROR"),
            (b'C', "42501"),
            (b'M', "no"),
            (b'H', "ask"),
        ];
        assert_eq!(read, expected);
        assert_eq!(fields.rest(), b"");
    }
}
