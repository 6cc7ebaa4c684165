use std::net::IpAddr;

use hickory_proto::op::{Message, MessageType, OpCode, Query};
use hickory_proto::rr::{DNSClass, Name, RecordType};

use super::answer::{Answer, Zone, answer};
use super::wire;
use crate::types::ServiceName;

fn zone() -> Zone {
    let mut zone = Zone::default();
    for (host, service, addresses) in [
        ("db.corp", "db", ["192.0.2.1", "2001:db8::1"].as_slice()),
        ("v4.corp", "db", &["192.0.2.2"]),
        ("hr.corp", "hr", &["192.0.2.3"]),
        ("lost.corp", "db", &[]),
        ("both.corp", "hr", &["192.0.2.4"]),
        ("both.corp", "db", &["192.0.2.4"]),
    ] {
        let addresses = addresses.iter().map(|text| text.parse().expect("literal"));
        zone.add(&host.into(), &ServiceName::from(service), addresses);
    }
    zone
}

/// For a session that may use the service `db`.
fn ask(name: &str, kind: RecordType) -> Answer {
    ask_class(name, kind, DNSClass::IN).0
}

fn ask_class(name: &str, kind: RecordType, class: DNSClass) -> (Answer, Option<String>) {
    let mut message = Message::new(1, MessageType::Query, OpCode::Query);
    let mut query = Query::query(Name::from_ascii(name).expect("name"), kind);
    query.set_query_class(class);
    message.add_query(query);
    let question = wire::read(&message.to_vec().expect("encodes")).expect("a question");
    let may = |service: &ServiceName| service.as_str() == "db";
    let (answer, host) = answer(&zone(), may, &question);
    (answer, host.map(|host| host.to_string()))
}

fn addresses(text: &[&str]) -> Answer {
    let addresses = text.iter().map(|text| text.parse::<IpAddr>());
    Answer::Addresses(addresses.collect::<Result<_, _>>().expect("literals"))
}

#[test]
fn hosts_of_the_sessions_services_have_their_addresses() {
    assert_eq!(ask("db.corp.", RecordType::A), addresses(&["192.0.2.1"]));
    assert_eq!(
        ask("DB.corp.", RecordType::AAAA),
        addresses(&["2001:db8::1"])
    );
    assert_eq!(ask("v4.corp.", RecordType::AAAA), Answer::NoData);
    assert_eq!(ask("db.corp.", RecordType::TXT), Answer::NoData);
    assert_eq!(ask("both.corp.", RecordType::A), addresses(&["192.0.2.4"]));
    assert_eq!(ask("lost.corp.", RecordType::A), Answer::Unresolved);
}

#[test]
fn all_other_names_do_not_exist() {
    for name in [
        "hr.corp.",
        "corp.",
        ".",
        "secret.db.corp.",
        "db.corp.example.com.",
        "db\\.corp.",
        "localhost.",
        "3.2.0.192.in-addr.arpa.",
        "9.2.0.192.in-addr.arpa.",
    ] {
        for kind in [RecordType::A, RecordType::TXT, RecordType::PTR] {
            assert_eq!(ask(name, kind), Answer::NoName, "{name}");
        }
    }
}

#[test]
fn an_address_leads_back_to_its_host() {
    let name = "1.2.0.192.in-addr.arpa.";
    assert_eq!(ask(name, RecordType::PTR), Answer::Host("db.corp".into()));
    assert_eq!(ask(name, RecordType::A), Answer::NoData);
}

#[test]
fn zone_transfers_and_other_classes_are_refused() {
    assert_eq!(ask("db.corp.", RecordType::AXFR), Answer::Refused);
    let (answer, host) = ask_class("db.corp.", RecordType::A, DNSClass::CH);
    assert_eq!((answer, host), (Answer::Refused, None));
}

#[test]
fn only_an_answer_with_addresses_ties_a_name() {
    let host = |kind| ask_class("db.corp.", kind, DNSClass::IN).1;
    assert_eq!(host(RecordType::A).as_deref(), Some("db.corp"));
    assert_eq!(host(RecordType::TXT), None);
    assert_eq!(ask_class("hr.corp.", RecordType::A, DNSClass::IN).1, None);
}
