//! Moves of the two sides.

use arbitrary::Arbitrary;
use bytes::BytesMut;

use crate::server::framed;

/// What happens next.
#[derive(Debug, Arbitrary)]
pub(crate) enum Move {
    Says(Message),
    SaysRaw(Vec<u8>),
    /// The server answers one message as it should.
    Serves(u8),
    ServesAll(u8),
    Lies(Lie),
    LiesRaw(Vec<u8>),
    RecordBreaks,
    /// An answer to a question that nobody asked.
    Impertinent,
}

/// A message of the agent.
#[derive(Debug, Arbitrary)]
pub(crate) enum Message {
    Query(Text),
    Parse(Name, Text),
    Bind(Name, Name),
    Execute(Name),
    DescribeStatement(Name),
    DescribePortal(Name),
    CloseStatement(Name),
    ClosePortal(Name),
    Flush,
    Sync,
    Batch(Text),
    Data,
    Done,
    Fail,
    Call,
    Goodbye,
    Any(u8, Vec<u8>),
}

/// A statement.
#[derive(Debug, Arbitrary)]
pub(crate) enum Text {
    Known(u8),
    Any(Vec<u8>),
}

const TEXTS: &[&str] = &[
    "SELECT * FROM orders",
    "SELECT * FROM forbidden",
    "DELETE FROM forbidden",
    "BEGIN",
    "COMMIT",
    "COPY orders FROM STDIN",
    "COPY orders TO STDOUT",
    "COPY forbidden FROM STDIN",
    "PREPARE q AS SELECT 1",
    "EXECUTE q",
    "DEALLOCATE q",
    "DECLARE c CURSOR FOR SELECT 1",
    "FETCH c",
    "CLOSE c",
    "SET client_encoding = 'UTF8'",
    "SELECT 1; SELECT 2",
    "SELECT 1; DROP TABLE forbidden",
    "SELEC nothing",
    "",
    "DISCARD ALL",
];

impl Text {
    fn bytes(&self) -> Vec<u8> {
        match self {
            Self::Known(number) => {
                let number = usize::from(*number) % TEXTS.len();
                TEXTS[number].as_bytes().to_vec()
            }
            Self::Any(bytes) => bytes.iter().copied().filter(|byte| *byte != 0).collect(),
        }
    }
}

/// A name of a statement or portal: few, so that they meet.
#[derive(Debug, Arbitrary)]
pub(crate) enum Name {
    Unnamed,
    A,
    B,
    Q,
    C,
    Long,
}

impl Name {
    fn bytes(&self) -> &'static [u8] {
        match self {
            Self::Unnamed => b"",
            Self::A => b"a",
            Self::B => b"b",
            Self::Q => b"q",
            Self::C => b"c",
            Self::Long => &[b'n'; 64],
        }
    }
}

impl Message {
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let zero: &[u8] = &[0];
        let (tag, body) = match self {
            Self::Query(text) => (b'Q', [&text.bytes(), zero].concat()),
            Self::Parse(name, text) => {
                let text = text.bytes();
                (b'P', [name.bytes(), zero, &text, &[0, 0, 0]].concat())
            }
            Self::Bind(portal, statement) => {
                let names = [portal.bytes(), zero, statement.bytes(), zero];
                (b'B', [&names.concat()[..], &[0; 6]].concat())
            }
            Self::Execute(portal) => (b'E', [portal.bytes(), &[0; 5]].concat()),
            Self::DescribeStatement(name) => (b'D', [b"S", name.bytes(), zero].concat()),
            Self::DescribePortal(name) => (b'D', [b"P", name.bytes(), zero].concat()),
            Self::CloseStatement(name) => (b'C', [b"S", name.bytes(), zero].concat()),
            Self::ClosePortal(name) => (b'C', [b"P", name.bytes(), zero].concat()),
            Self::Flush => (b'H', Vec::new()),
            Self::Sync => (b'S', Vec::new()),
            Self::Batch(text) => return batch(&String::from_utf8_lossy(&text.bytes())),
            Self::Data => (b'd', b"1\tx\n".to_vec()),
            Self::Done => (b'c', Vec::new()),
            Self::Fail => (b'f', b"no\0".to_vec()),
            Self::Call => (b'F', vec![0, 0, 0, 99, 0, 0, 0, 0, 0, 0]),
            Self::Goodbye => (b'X', Vec::new()),
            Self::Any(tag, body) => (*tag, body.clone()),
        };
        message(tag, &body)
    }
}

fn message(tag: u8, body: &[u8]) -> Vec<u8> {
    let mut out = BytesMut::new();
    framed(&mut out, tag, body);
    out.to_vec()
}

pub(crate) fn query(text: &str) -> Vec<u8> {
    message(b'Q', &[text.as_bytes(), &[0]].concat())
}

/// Parse, Bind, Describe, Execute, Sync of the unnamed ones.
pub(crate) fn batch(text: &str) -> Vec<u8> {
    let parse = Message::Parse(Name::Unnamed, Text::Any(text.as_bytes().to_vec()));
    let all = [
        parse,
        Message::Bind(Name::Unnamed, Name::Unnamed),
        Message::DescribePortal(Name::Unnamed),
        Message::Execute(Name::Unnamed),
        Message::Sync,
    ];
    all.iter().flat_map(Message::bytes).collect()
}

/// A message of the server, whether or not anybody waits for it.
#[derive(Debug, Arbitrary)]
pub(crate) struct Lie {
    kind: Kind,
    body: Vec<u8>,
}

#[derive(Debug, Arbitrary)]
enum Kind {
    Row,
    Complete,
    Ready(u8),
    Error,
    CopyIn,
    CopyOut,
    CopyBoth,
    CopyDone,
    Data,
    Described,
    Status,
    Bare(u8),
    Any(u8),
}

impl Lie {
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let (tag, body): (u8, &[u8]) = match &self.kind {
            Kind::Row => (b'D', &self.body),
            Kind::Complete => (b'C', b"SELECT 1\0"),
            Kind::Ready(status) => {
                let all: [&[u8]; 4] = [b"I", b"T", b"E", b"X"];
                (b'Z', all[usize::from(*status) % 4])
            }
            Kind::Error => (b'E', b"SERROR\0VERROR\0C22012\0Mno\0\0"),
            Kind::CopyIn => (b'G', &[0, 0, 0]),
            Kind::CopyOut => (b'H', &[0, 0, 0]),
            Kind::CopyBoth => (b'W', &[0, 0, 0]),
            Kind::CopyDone => (b'c', b""),
            Kind::Data => (b'd', &self.body),
            Kind::Described => (b'T', &[0, 0]),
            Kind::Status => (b'S', b"client_encoding\0SJIS\0"),
            Kind::Bare(tag) => (b"123nsIt"[usize::from(*tag) % 7], b""),
            Kind::Any(tag) => (*tag, &self.body),
        };
        message(tag, body)
    }
}
