//! A server that answers as PostgreSQL does, as far as order and skipping go (manual 55.2):
//! what a statement returns is the caller's choice.

use std::collections::{HashMap, VecDeque};

use bytes::{BufMut, BytesMut};
use portcullis::protocol::postgres::codec::{Fields, message};

/// A COPY that waits for data, and whether it is part of a simple query.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Copying {
    No,
    Simple,
    Extended,
}

pub(crate) struct Server {
    received: VecDeque<(u8, Vec<u8>)>,
    skipping: bool,
    copying: Copying,
    in_transaction: bool,
    statements: HashMap<Vec<u8>, Vec<u8>>,
    portals: HashMap<Vec<u8>, Vec<u8>>,
}

impl Default for Server {
    fn default() -> Self {
        Self {
            received: VecDeque::new(),
            skipping: false,
            copying: Copying::No,
            in_transaction: false,
            statements: HashMap::new(),
            portals: HashMap::new(),
        }
    }
}

pub(crate) fn framed(out: &mut BytesMut, tag: u8, body: &[u8]) {
    message::framed(out, tag, |out| out.extend_from_slice(body));
}

fn error(out: &mut BytesMut, code: &str, text: &str) {
    let body = format!("SERROR\0VERROR\0C{code}\0M{text}\0\0");
    framed(out, b'E', body.as_bytes());
}

/// Whether it is a COPY of a plain table, that way: words alone don't make one, as in
/// `SELECT copy orders FROM stdin`.
fn is_copy(text: &[u8], way: [&str; 2]) -> bool {
    let text = String::from_utf8_lossy(text).to_ascii_lowercase();
    let mut words = text.split_ascii_whitespace();
    words.next() == Some("copy")
        && words.next().is_some_and(|table| {
            table
                .bytes()
                .all(|byte| byte == b'_' || byte.is_ascii_lowercase())
        })
        && way.into_iter().all(|word| words.next() == Some(word))
}

fn is_copy_in(text: &[u8]) -> bool {
    is_copy(text, ["from", "stdin"])
}

fn is_copy_out(text: &[u8]) -> bool {
    is_copy(text, ["to", "stdout"])
}

impl Server {
    /// All that it says to a client that may log in with a password.
    pub(crate) fn login() -> Vec<u8> {
        let mut out = BytesMut::new();
        framed(&mut out, b'R', &[0, 0, 0, 3]);
        framed(&mut out, b'R', &[0, 0, 0, 0]);
        for (name, value) in [
            ("client_encoding", "UTF8"),
            ("server_encoding", "UTF8"),
            ("standard_conforming_strings", "on"),
        ] {
            framed(&mut out, b'S', format!("{name}\0{value}\0").as_bytes());
        }
        framed(&mut out, b'K', &[0, 0, 0, 7, 1, 2, 3, 4]);
        framed(&mut out, b'Z', b"I");
        out.to_vec()
    }

    pub(crate) fn receive(&mut self, tag: u8, frame: Vec<u8>) {
        self.received.push_back((tag, frame));
    }

    pub(crate) fn has_more(&self) -> bool {
        !self.received.is_empty()
    }

    /// The answer to the next message, if there is one.
    pub(crate) fn serve(&mut self, choice: u8) -> Vec<u8> {
        let mut out = BytesMut::new();
        let Some((tag, frame)) = self.received.pop_front() else {
            return Vec::new();
        };
        if self.copying != Copying::No {
            self.copy_data(tag, choice, &mut out);
        } else if self.skipping && !matches!(tag, b'S' | b'X') {
            // Until Sync.
        } else {
            self.message(tag, &frame, choice, &mut out);
        }
        out.to_vec()
    }

    fn copy_data(&mut self, tag: u8, choice: u8, out: &mut BytesMut) {
        match tag {
            b'd' if choice % 8 != 7 => {}
            b'H' | b'S' => {}
            b'c' => {
                framed(out, b'C', b"COPY 1\0");
                if self.copying == Copying::Simple {
                    self.ready(out);
                }
                self.copying = Copying::No;
            }
            b'd' => self.copy_failed("22P04", "bad data", out),
            b'f' => self.copy_failed("57014", "COPY from stdin failed", out),
            _ => self.copy_failed("08P01", "unexpected message type", out),
        }
    }

    fn copy_failed(&mut self, code: &str, text: &str, out: &mut BytesMut) {
        error(out, code, text);
        match self.copying {
            Copying::Simple => self.ready(out),
            _ => self.skipping = true,
        }
        self.copying = Copying::No;
    }

    fn ready(&mut self, out: &mut BytesMut) {
        let status = if self.in_transaction { b"T" } else { b"I" };
        if !self.in_transaction {
            self.portals.clear();
        }
        framed(out, b'Z', status);
    }

    fn message(&mut self, tag: u8, frame: &[u8], choice: u8, out: &mut BytesMut) {
        let mut fields = Fields::of_frame(frame);
        match tag {
            b'Q' => self.query(fields.bytes().unwrap_or_default(), choice, out),
            b'F' => {
                match choice % 4 {
                    0 => error(out, "42883", "no such function"),
                    _ => framed(out, b'V', &[0xff; 4]),
                }
                self.ready(out);
            }
            b'S' => {
                self.skipping = false;
                self.ready(out);
            }
            b'P' | b'B' | b'D' | b'C' | b'E' => {
                if self.extended(tag, fields, choice, out).is_none() {
                    self.skipping = true;
                    error(out, "42601", "syntax error at or near what was sent");
                }
            }
            // Flush; data and ends of data of no COPY are ignored.
            _ => {}
        }
        if choice & 0x40 != 0 && !out.is_empty() && self.copying == Copying::No {
            framed(out, b'N', b"SNOTICE\0VNOTICE\0C00000\0Mso it is\0\0");
        }
    }

    fn query(&mut self, text: &[u8], choice: u8, out: &mut BytesMut) {
        self.statements.remove(&b""[..]);
        let decoy = text.starts_with(b"portcullis_denied_");
        match choice % 8 {
            _ if decoy => {
                let text = String::from_utf8_lossy(text).into_owned();
                error(out, "42601", &format!("syntax error at or near \"{text}\""));
            }
            0 if is_copy_in(text) => {
                framed(out, b'G', &[0, 0, 0]);
                self.copying = Copying::Simple;
                return;
            }
            1 => error(out, "22012", "division by zero"),
            2 => framed(out, b'I', b""),
            _ if is_copy_in(text) => error(out, "42P01", "no such table"),
            _ if is_copy_out(text) => copy_out(out),
            3 => {
                self.in_transaction = !self.in_transaction;
                framed(out, b'C', b"BEGIN\0");
            }
            more => rows(more, true, out),
        }
        self.ready(out);
    }

    /// None is an error.
    fn extended(
        &mut self,
        tag: u8,
        mut fields: Fields<'_>,
        choice: u8,
        out: &mut BytesMut,
    ) -> Option<()> {
        if choice % 16 == 15 {
            return None;
        }
        match tag {
            b'P' => {
                let name = fields.bytes().ok()?.to_vec();
                let text = fields.bytes().ok()?.to_vec();
                if name.is_empty() {
                    self.statements.remove(&name);
                }
                let fails = text.starts_with(b"portcullis_denied_") || choice % 8 == 7;
                if fails || self.statements.contains_key(&name) {
                    let text = String::from_utf8_lossy(&text).into_owned();
                    error(out, "42601", &format!("syntax error at or near \"{text}\""));
                    self.skipping = true;
                    return Some(());
                }
                self.statements.insert(name, text);
                framed(out, b'1', b"");
            }
            b'B' => {
                let portal = fields.bytes().ok()?.to_vec();
                let text = self.statements.get(fields.bytes().ok()?)?.clone();
                if !portal.is_empty() && self.portals.contains_key(&portal) {
                    return None;
                }
                self.portals.insert(portal, text);
                framed(out, b'2', b"");
            }
            b'D' => {
                let statement = fields.byte().ok()? == b'S';
                let name = fields.bytes().ok()?;
                let all = if statement {
                    &self.statements
                } else {
                    &self.portals
                };
                all.get(name)?;
                if statement {
                    framed(out, b't', &[0, 0]);
                }
                match choice % 2 {
                    0 => framed(out, b'n', b""),
                    _ => framed(out, b'T', &[0, 0]),
                }
            }
            b'C' => {
                let statement = fields.byte().ok()? == b'S';
                let name = fields.bytes().ok()?;
                match statement {
                    true => self.statements.remove(name),
                    false => self.portals.remove(name),
                };
                framed(out, b'3', b"");
            }
            _ => return self.execute(fields.bytes().ok()?, choice, out),
        }
        Some(())
    }

    fn execute(&mut self, portal: &[u8], choice: u8, out: &mut BytesMut) -> Option<()> {
        let Some(text) = self.portals.get(portal) else {
            let portal = String::from_utf8_lossy(portal).into_owned();
            error(out, "34000", &format!("portal \"{portal}\" does not exist"));
            self.skipping = true;
            return Some(());
        };
        match choice % 8 {
            0 if is_copy_in(text) => {
                framed(out, b'G', &[0, 0, 0]);
                self.copying = Copying::Extended;
            }
            _ if is_copy_in(text) => return None,
            _ if is_copy_out(text) => copy_out(out),
            1 => framed(out, b'I', b""),
            2 => {
                row(out);
                framed(out, b's', b"");
            }
            more => rows(more, false, out),
        }
        Some(())
    }
}

fn row(out: &mut BytesMut) {
    framed(out, b'D', &[0, 1, 0, 0, 0, 1, b'x']);
}

fn rows(count: u8, described: bool, out: &mut BytesMut) {
    if described {
        let mut body = BytesMut::new();
        body.put_i16(1);
        body.extend_from_slice(b"x\0");
        body.extend_from_slice(&[0; 18]);
        framed(out, b'T', &body);
    }
    for _ in 0..count {
        row(out);
    }
    framed(out, b'C', format!("SELECT {count}\0").as_bytes());
}

fn copy_out(out: &mut BytesMut) {
    framed(out, b'H', &[0, 0, 0]);
    framed(out, b'd', b"1\n");
    framed(out, b'c', b"");
    framed(out, b'C', b"COPY 1\0");
}
