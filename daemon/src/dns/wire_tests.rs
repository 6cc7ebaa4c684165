use hickory_proto::rr::rdata::{A, AAAA};

use super::*;

fn query(name: &str, kind: RecordType) -> Message {
    let mut message = Message::new(0x1234, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(Name::from_ascii(name).expect("name"), kind));
    message
}

fn bytes(message: &Message) -> Vec<u8> {
    message.to_vec().expect("encodes")
}

fn question(name: &str, kind: RecordType) -> Question {
    read(&bytes(&query(name, kind))).expect("a question")
}

fn answered(bytes: &[u8]) -> Message {
    Message::from_vec(bytes).expect("a message")
}

fn refused_with(bytes: &[u8]) -> ResponseCode {
    match read(bytes) {
        Err(Broken::Answer(bytes)) => answered(&bytes).metadata.response_code,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_question_keeps_its_case_in_the_answer_and_loses_it_in_the_host() {
    let question = question("Db.CORP.", RecordType::A);
    assert_eq!(question.host(), "db.corp");
    let address = "192.0.2.1".parse().expect("literal");
    let bytes = write(&question, &Answer::Addresses(vec![address]), true).expect("written");
    let message = answered(&bytes);
    assert_eq!(message.metadata.id, 0x1234);
    assert!(message.metadata.recursion_desired && message.metadata.recursion_available);
    assert_eq!(message.queries[0].name.to_ascii(), "Db.CORP.");
    assert_eq!(message.answers.len(), 1);
    assert_eq!(message.answers[0].data, RData::A(A([192, 0, 2, 1].into())));
    assert_eq!(message.edns, None);
}

#[test]
fn what_is_no_question_is_answered_with_its_mistake_or_not_at_all() {
    assert_eq!(read(&[]), Err(Broken::Ignore));
    assert_eq!(read(&[0; 11]), Err(Broken::Ignore));
    assert_eq!(refused_with(&[0; 12]), ResponseCode::FormErr);
    let good = bytes(&query("a.", RecordType::A));
    let with = |at: usize, value: u8| {
        let mut bytes = good.clone();
        bytes[at] = value;
        bytes
    };
    assert_eq!(read(&with(2, 0x80)), Err(Broken::Ignore), "an answer");
    assert_eq!(refused_with(&with(2, 0x28)), ResponseCode::NotImp, "UPDATE");
    assert_eq!(refused_with(&with(5, 2)), ResponseCode::FormErr, "two");
    assert_eq!(refused_with(&with(5, 0)), ResponseCode::FormErr, "none");
    assert_eq!(refused_with(&with(7, 1)), ResponseCode::FormErr, "answers");
    assert_eq!(refused_with(&with(11, 2)), ResponseCode::FormErr, "records");
    let mut many = good.clone();
    many[4..6].copy_from_slice(&[0xff, 0xff]);
    many.extend(std::iter::repeat_n([0, 0, 1, 0, 1], 13_000).flatten());
    assert_eq!(refused_with(&many), ResponseCode::FormErr, "64 KiB");
    for length in 12..good.len() {
        assert_eq!(refused_with(&good[..length]), ResponseCode::FormErr);
    }
}

#[test]
fn names_that_point_at_themselves_are_mistakes() {
    for pointer in [[0xc0, 12], [0xc0, 14], [0xc0, 0xff]] {
        let mut message = bytes(&query(".", RecordType::A));
        message.splice(12..13, pointer);
        assert_eq!(refused_with(&message), ResponseCode::FormErr, "{pointer:?}");
    }
}

#[test]
fn edns_is_answered_with_ours_and_nothing_of_theirs() {
    let mut message = query("a.", RecordType::A);
    let mut edns = Edns::new();
    edns.set_max_payload(4096).set_dnssec_ok(true);
    message.set_edns(edns.clone());
    let question = read(&bytes(&message)).expect("a question");
    let back = answered(&write(&question, &Answer::NoName, true).expect("written"));
    let theirs = back.edns.expect("EDNS");
    assert_eq!((theirs.version(), theirs.max_payload()), (0, 1232));
    assert!(!theirs.flags().dnssec_ok && theirs.options().options.is_empty());
    edns.set_version(1);
    message.set_edns(edns);
    // TSIG's BADSIG has the same number, 16.
    let code: u16 = refused_with(&bytes(&message)).into();
    assert_eq!(code, 16);
}

#[test]
fn an_answer_that_is_too_long_is_cut_by_udp_only() {
    let many = |count: u8| {
        let address = |last| IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, last]);
        Answer::Addresses((0..count.into()).map(address).collect())
    };
    let mut message = query("a.", RecordType::AAAA);
    let plain = read(&bytes(&message)).expect("a question");
    message.set_edns(Edns::new());
    let edns = read(&bytes(&message)).expect("a question");
    for (question, count, is_cut) in [(&plain, 15, false), (&plain, 20, true), (&edns, 20, true)] {
        let back = answered(&write(question, &many(count), true).expect("written"));
        assert_eq!(back.metadata.truncation, is_cut, "{count}");
        assert_eq!(back.answers.is_empty(), is_cut, "{count}");
    }
    let whole = answered(&write(&plain, &many(200), false).expect("written"));
    assert_eq!(whole.answers.len(), 200);
    let first = "2001:db8::".parse().expect("literal");
    assert_eq!(whole.answers[0].data, RData::AAAA(AAAA(first)));
}

#[test]
fn only_whole_addresses_are_reverse() {
    let reverse = |name: &str| question(name, RecordType::PTR).reverse();
    assert_eq!(
        reverse("1.2.0.192.in-addr.arpa."),
        Some("192.0.2.1".parse().expect("literal"))
    );
    assert_eq!(reverse("2.0.192.in-addr.arpa."), None);
    assert_eq!(reverse("db.corp."), None);
    let six = "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa.";
    assert_eq!(reverse(six), Some("2001:db8::1".parse().expect("literal")));
}
