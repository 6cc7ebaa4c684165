//! DNS messages (RFC 1035) between bytes and [`Question`]s, and back.
//!
//! What is read is bounded before it is parsed: one question, no records but EDNS (RFC
//! 6891). Nothing of a query but its id, its question and two flags is in the answer.

use std::net::IpAddr;

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::PTR;
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};

use super::answer::Answer;

/// The longest message that is read, in bytes: a question is at most 271, the rest is EDNS.
/// Also what is told to askers as our UDP payload size (DNS Flag Day 2020).
pub(super) const LONGEST: usize = 1232;
/// What may be sent to an asker that names no size (RFC 1035, 2.3.4).
const PLAIN: usize = 512;
const HEADER: usize = 12;
/// Seconds that an answer may be kept: as long as the daemon keeps what it resolved.
pub(super) const TTL: u32 = 30;

/// One question, and what its answer needs of the rest of its message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Question {
    id: u16,
    recursion_desired: bool,
    query: Query,
    /// Payload size of EDNS, where the asker has it.
    edns: Option<usize>,
}

/// A message that is no question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Broken {
    /// Not worth an answer: too short, or an answer itself.
    Ignore,
    /// This goes back.
    Answer(Vec<u8>),
}

impl Question {
    /// The host name in lower case, without the last dot, escaped where it is not printable.
    pub(super) fn host(&self) -> String {
        let mut text = self.query.name.to_lowercase().to_ascii();
        if text.ends_with('.') {
            text.pop();
        }
        text
    }

    /// The type that is asked for.
    pub(super) fn kind(&self) -> RecordType {
        self.query.query_type
    }

    /// Whether it is of the internet's class.
    pub(super) fn is_internet(&self) -> bool {
        self.query.query_class == DNSClass::IN
    }

    /// The address, where the name is one of reverse look-up (RFC 1035 3.5, RFC 3596 2.5).
    pub(super) fn reverse(&self) -> Option<IpAddr> {
        let net = self.query.name.parse_arpa_name().ok()?;
        (net.prefix_len() == net.max_prefix_len()).then(|| net.addr())
    }
}

/// Reads a query.
pub(super) fn read(bytes: &[u8]) -> Result<Question, Broken> {
    let header: &[u8; HEADER] = bytes.first_chunk().ok_or(Broken::Ignore)?;
    let word = |at: usize| match (header.get(at), header.get(at + 1)) {
        (Some(high), Some(low)) => u16::from_be_bytes([*high, *low]),
        _ => 0,
    };
    let (id, flags) = (word(0), word(2));
    if flags >> 15 == 1 {
        return Err(Broken::Ignore);
    }
    let code = OpCode::from_u8(((flags >> 11) & 0xf) as u8);
    if code != OpCode::Query {
        return Err(error(id, code, ResponseCode::NotImp));
    }
    let format = || error(id, OpCode::Query, ResponseCode::FormErr);
    let (questions, answers, authorities, additionals) = (word(4), word(6), word(8), word(10));
    if bytes.len() > LONGEST || (questions, answers, authorities) != (1, 0, 0) || additionals > 1 {
        return Err(format());
    }
    let message = Message::from_vec(bytes).map_err(|_| format())?;
    // TSIG, SIG(0) or a record that has no place in a query.
    if message.signature.is_some() || !message.additionals.is_empty() {
        return Err(format());
    }
    if message
        .edns
        .as_ref()
        .is_some_and(|edns| edns.version() != 0)
    {
        return Err(error(id, OpCode::Query, ResponseCode::BADVERS));
    }
    let [query] = message.queries.as_slice() else {
        return Err(format());
    };
    Ok(Question {
        id,
        recursion_desired: message.metadata.recursion_desired,
        query: query.clone(),
        edns: message.edns.as_ref().map(|edns| edns.max_payload().into()),
    })
}

fn error(id: u16, code: OpCode, what: ResponseCode) -> Broken {
    let mut message = Message::error_msg(id, code, what);
    if what == ResponseCode::BADVERS {
        message.set_edns(edns());
    }
    message.to_vec().map_or(Broken::Ignore, Broken::Answer)
}

fn edns() -> Edns {
    let mut edns = Edns::new();
    edns.set_max_payload(LONGEST as u16);
    edns
}

/// Writes the answer; by UDP it is cut, and says so, where the asker can't take it whole.
/// None: it can't be written, and the asker gets nothing.
pub(super) fn write(question: &Question, answer: &Answer, by_udp: bool) -> Option<Vec<u8>> {
    let mut message = Message::new(question.id, MessageType::Response, OpCode::Query);
    message.metadata.recursion_desired = question.recursion_desired;
    message.metadata.recursion_available = true;
    message.metadata.response_code = code(answer);
    message.add_query(question.query.clone());
    message.add_answers(records(question, answer));
    if question.edns.is_some() {
        message.set_edns(edns());
    }
    let bytes = message.to_vec().ok()?;
    let most = question.edns.unwrap_or(PLAIN).clamp(PLAIN, LONGEST);
    if !by_udp || bytes.len() <= most {
        return Some(bytes);
    }
    message.answers.clear();
    message.metadata.truncation = true;
    message.to_vec().ok()
}

fn code(answer: &Answer) -> ResponseCode {
    match answer {
        Answer::Addresses(_) | Answer::Host(_) | Answer::NoData => ResponseCode::NoError,
        Answer::NoName => ResponseCode::NXDomain,
        Answer::Unresolved => ResponseCode::ServFail,
        Answer::Refused => ResponseCode::Refused,
    }
}

fn records(question: &Question, answer: &Answer) -> Vec<Record> {
    let record = |data| Record::from_rdata(question.query.name.clone(), TTL, data);
    match answer {
        Answer::Addresses(addresses) => addresses
            .iter()
            .map(|address| match address {
                IpAddr::V4(v4) => record(RData::from(*v4)),
                IpAddr::V6(v6) => record(RData::from(*v6)),
            })
            .collect(),
        Answer::Host(host) => Name::from_ascii(&**host)
            .map(|mut name| {
                name.set_fqdn(true);
                record(RData::PTR(PTR(name)))
            })
            .into_iter()
            .collect(),
        _ => Vec::new(),
    }
}

#[cfg(test)]
#[path = "wire_tests.rs"]
mod tests;
