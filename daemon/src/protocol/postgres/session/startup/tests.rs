use bytes::{BufMut, BytesMut};

use super::*;
use crate::protocol::CancelKey;
use crate::protocol::postgres::session::tests::settings;

fn packet(version: i32, body: &[u8]) -> Vec<u8> {
    let length = i32::try_from(body.len() + 8).expect("short").to_be_bytes();
    [&length, &version.to_be_bytes()[..], body].concat()
}

pub(super) fn startup(pairs: &[(&str, &str)]) -> Vec<u8> {
    let mut body: Vec<u8> = pairs
        .iter()
        .flat_map(|(name, value)| format!("{name}\0{value}\0").into_bytes())
        .collect();
    body.push(0);
    packet(196_608, &body)
}

pub(super) const SSL: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 47];
pub(super) const GSSENC: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 48];

/// What comes of these bytes, and what the agent is told.
fn said(settings: &Settings, bytes: &[u8]) -> (Next, Buffers) {
    let mut io = Buffers::default();
    io.from_agent.extend_from_slice(bytes);
    let next = Startup::default().advance(settings, &mut io);
    (next, io)
}

fn accepted(settings: &Settings, pairs: &[(&str, &str)]) -> Accepted {
    match said(settings, &startup(pairs)).0 {
        Next::Accepted(accepted) => accepted,
        Next::Step(step) => panic!("{step:?}"),
        Next::Refuse(error, _) => panic!("{}", error.message),
    }
}

/// The SQLSTATE of a refusal; empty if there is none.
fn code(settings: &Settings, pairs: &[(&str, &str)]) -> &'static str {
    match said(settings, &startup(pairs)).0 {
        Next::Refuse(error, _) => error.code,
        _ => "",
    }
}

/// What the settings do that is not harmless.
fn judged(settings: &Settings, pairs: &[(&str, &str)]) -> Vec<String> {
    let effects = accepted(settings, pairs).opening.effects;
    effects.iter().map(ToString::to_string).collect()
}

#[test]
fn the_upstream_hears_the_gates_user_and_what_reading_depends_on() {
    let pairs = [
        ("user", "agent"),
        ("database", "shop"),
        ("DateStyle", "ISO"),
        ("application_name", "psql"),
    ];
    let accepted = accepted(&settings(), &pairs);
    assert_eq!(accepted.opening.user, "agent");
    assert_eq!(accepted.opening.database, "shop");
    assert_eq!(accepted.opening.application, "psql");
    let expected = [
        ("user", "gate"),
        ("search_path", "\"public\""),
        ("standard_conforming_strings", "on"),
        ("DateStyle", "ISO"),
        ("application_name", "psql"),
        ("database", "shop"),
    ];
    let expected = expected.map(|(name, value)| (name.to_owned(), value.to_owned()));
    assert_eq!(accepted.upstream, expected);
}

#[test]
fn a_database_that_is_not_named_is_the_users() {
    assert_eq!(
        accepted(&settings(), &[("user", "shop")]).opening.database,
        "shop"
    );
}

#[test]
fn a_start_is_the_same_however_it_is_cut() {
    let start = startup(&[("user", "agent"), ("database", "shop")]);
    let bytes = [&GSSENC[..], &start, b"Q..."].concat();
    for cut in 0..bytes.len() {
        let (head, tail) = bytes.split_at(cut);
        let (settings, mut io) = (settings(), Buffers::default());
        let mut state = Startup::default();
        io.from_agent.extend_from_slice(head);
        let done = GSSENC.len() + start.len();
        if cut < done {
            let next = state.advance(&settings, &mut io);
            assert!(matches!(next, Next::Step(Step::Idle)), "cut at {cut}");
            assert_eq!(io.to_agent.len(), (cut / 8).min(1), "cut at {cut}");
        }
        io.from_agent.extend_from_slice(tail);
        let next = state.advance(&settings, &mut io);
        assert!(matches!(next, Next::Accepted(_)), "cut at {cut}");
        assert_eq!(&io.to_agent[..], b"N");
        assert_eq!(&io.from_agent[..], b"Q...", "what comes behind waits");
        assert_eq!(&io.to_upstream[..], b"");
    }
}

#[test]
fn a_cancel_request_is_passed_on_as_it_is() {
    let bytes = packet(80_877_102, &[0, 0, 0, 7, 1, 2, 3, 4]);
    let (next, io) = said(&settings(), &bytes);
    let key = CancelKey {
        process: 7,
        secret: vec![1, 2, 3, 4],
    };
    assert!(matches!(next, Next::Step(Step::Cancel(found)) if found == key));
    assert_eq!(&io.to_agent[..], b"");
}

/// As PostgreSQL 18 answers: NegotiateProtocolVersion only where it speaks less than it was
/// asked for, or does not know an option; 3.1 is spoken as it is asked for.
#[test]
fn versions_are_negotiated_as_postgresql_18_does() {
    let two = "_pq_.one\x001st\0_pq_.two\0x\0";
    for (minor, options, told, long_key) in [
        (0, "", None, false),
        (1, "", None, false),
        (2, "", None, true),
        (3, "", Some((2, vec![])), true),
        (9999, "", Some((2, vec![])), true),
        (0xffff, "", Some((2, vec![])), true),
        (0, two, Some((0, vec!["_pq_.one", "_pq_.two"])), false),
        (1, two, Some((1, vec!["_pq_.one", "_pq_.two"])), false),
        (2, two, Some((2, vec!["_pq_.one", "_pq_.two"])), true),
        (9999, two, Some((2, vec!["_pq_.one", "_pq_.two"])), true),
    ] {
        let body = format!("user\0a\0{options}\0");
        let (next, io) = said(&settings(), &packet(196_608 + minor, body.as_bytes()));
        let Next::Accepted(accepted) = next else {
            panic!("3.{minor} is not accepted")
        };
        let sent = |name: &str| accepted.upstream.iter().any(|(sent, _)| sent == name);
        assert!(!sent("_pq_.one") && !sent("_pq_.two"), "3.{minor}");
        assert_eq!(accepted.long_key, long_key, "3.{minor}");
        let mut expected = BytesMut::new();
        if let Some((minor, options)) = told {
            message::framed(&mut expected, b'v', |out| {
                out.put_i32(196_608 + minor);
                out.put_i32(i32::try_from(options.len()).expect("few"));
                for option in options {
                    message::put_text(out, option);
                }
            });
        }
        assert_eq!(&io.to_agent[..], &expected[..], "3.{minor} {options}");
    }
    for version in [
        0,
        1,
        65_536,
        131_072,
        196_607,
        262_144,
        i32::MAX,
        i32::MIN,
        -1,
    ] {
        let (next, io) = said(&settings(), &packet(version, b"user\0a\0\0"));
        assert!(matches!(next, Next::Refuse(..)), "{version}");
        assert_eq!(&io.to_agent[..], b"");
    }
}

#[test]
fn replication_is_refused() {
    for (value, refused) in [
        ("true", true),
        ("on", true),
        ("1", true),
        ("database", true),
        ("", true),
        ("false", false),
        ("OFF", false),
        ("no", false),
        ("0", false),
    ] {
        let code = code(&settings(), &[("user", "a"), ("replication", value)]);
        assert_eq!(code == "42501", refused, "{value}");
    }
    let (next, _) = said(
        &settings(),
        &startup(&[("user", "a"), ("replication", "database")]),
    );
    let why = |error: &ErrorMessage| error.message.contains("replication");
    assert!(
        matches!(&next, Next::Refuse(error, _) if why(error)),
        "the reason"
    );
}

#[test]
fn only_the_services_databases_are_open() {
    let mut settings = settings();
    settings.databases = vec!["shop".into(), "web".into()];
    assert_eq!(code(&settings, &[("user", "a"), ("database", "web")]), "");
    assert_eq!(
        code(&settings, &[("user", "a"), ("database", "postgres")]),
        "42501"
    );
    assert_eq!(code(&settings, &[("user", "a")]), "42501");
}

#[test]
fn a_setting_that_is_not_harmless_is_an_effect() {
    for (name, effects) in [
        ("role", "sql.privilege role.gate"),
        ("Session_Authorization", "sql.privilege role.gate"),
        ("USER", "sql.session setting.user"),
        ("Database", "sql.session setting.database"),
        ("row_security", "sql.session setting.row_security"),
        ("x.y", "sql.session setting.\"x.y\""),
        (
            "Search_Path",
            "sql.session setting.search_path, sql.unknown statement",
        ),
        (
            "session_preload_libraries",
            "sql.session setting.session_preload_libraries, sql.unsafe_io server",
        ),
        ("statement_timeout", ""),
    ] {
        let pairs = [("user", "a"), (name, "gate")];
        assert_eq!(judged(&settings(), &pairs).join(", "), effects, "{name}");
        let value = format!("-c {name}=gate");
        let pairs = [("user", "a"), ("options", &value)];
        let found = judged(&settings(), &pairs).join(", ");
        let is_word = matches!(name, "USER" | "Database");
        assert!(is_word || found == effects, "{value}: {found}");
    }
    let two = [("user", "a"), ("options", "-c role=x -c jit=off -c y=1")];
    let expected = ["sql.privilege role.x", "sql.session setting.y"];
    assert_eq!(judged(&settings(), &two), expected);
}

#[test]
fn a_further_user_is_a_role_that_is_taken_on() {
    for (user, login, effects) in [
        ("whoever", "gate", vec![]),
        ("gate", "gate", vec![]),
        (
            "other",
            "other",
            vec!["sql.privilege role.other".to_owned()],
        ),
        ("Other", "gate", vec![]),
    ] {
        let accepted = accepted(&settings(), &[("user", user)]);
        assert_eq!(accepted.opening.login, login, "{user}");
        assert_eq!(accepted.upstream[0], ("user".to_owned(), login.to_owned()));
        assert_eq!(judged(&settings(), &[("user", user)]), effects, "{user}");
    }
}

#[test]
fn what_is_no_setting_is_refused() {
    for options in [
        "-c user=postgres",
        "-c options=-crole=postgres",
        "--options=-crole=postgres",
        "-c =x",
        "-c _pq_.x=1",
        "-c database=x",
        "--replication=true",
        "-d 5",
        "-c",
        "-c x",
        "postgres",
    ] {
        let refused = code(&settings(), &[("user", "a"), ("options", options)]);
        assert_eq!(refused, "42501", "{options}");
    }
    assert_eq!(code(&settings(), &[("user", "a"), ("options", "")]), "");
    for encoding in ["UTF8", "LATIN1"] {
        assert_eq!(
            code(&settings(), &[("user", "a"), ("client_encoding", encoding)]),
            ""
        );
    }
}

#[test]
fn options_are_split_as_the_server_splits_them() {
    let pairs = options(r"-c DateStyle=ISO\ x --statement-timeout=5 -cgeqo=off");
    let expected = [
        ("DateStyle", "ISO x"),
        ("statement_timeout", "5"),
        ("geqo", "off"),
    ];
    let expected = expected.map(|(name, value)| (name.to_owned(), value.to_owned()));
    assert_eq!(pairs, Some(expected.to_vec()));
    assert_eq!(options("-e"), None);
    assert_eq!(options("-c"), None);
}

#[test]
fn a_pinned_setting_may_be_repeated_but_not_changed() {
    for (name, value, refused) in [
        ("SEARCH_PATH", "\"public\"", false),
        // As JDBC says it.
        ("search_path", "public", false),
        ("search_path", " Public ", false),
        ("search_path", "\"Public\"", true),
        ("search_path", "evil", true),
        ("Search_Path", "public, evil", true),
        ("search_path", "", true),
        ("search_path", "\"public", true),
        ("standard_conforming_strings", "on", false),
        ("standard_conforming_strings", "off", true),
    ] {
        let effects = judged(&settings(), &[("user", "a"), (name, value)]);
        assert_eq!(!effects.is_empty(), refused, "{name} {value}");
    }
    // What is sent is the gate's own, whatever the agent's looked like.
    let pairs = [("user", "a"), ("search_path", "PUBLIC")];
    let accepted = accepted(&settings(), &pairs);
    let path = |(name, value): &(String, String)| (name == "search_path").then(|| value.clone());
    let sent: Vec<_> = accepted.upstream.iter().filter_map(path).collect();
    assert_eq!(sent, ["\"public\""]);
}

#[test]
fn schemas_are_quoted() {
    assert_eq!(
        search_path(&["a\"b".into(), "c d".into()]),
        "\"a\"\"b\", \"c d\""
    );
    let mut settings = settings();
    settings.search_path = Some(vec!["a\"b".into(), "c d".into()]);
    let same = [("user", "a"), ("search_path", "\"a\"\"b\",\"c d\"")];
    assert_eq!(judged(&settings, &same), [""; 0]);
}

#[test]
fn a_path_of_the_servers_own_is_not_sent() {
    let mut settings = settings();
    settings.search_path = None;
    let sent = accepted(&settings, &[("user", "a")]).upstream;
    assert!(
        sent.iter().all(|(name, _)| name != "search_path"),
        "{sent:?}"
    );
    let pairs = [("user", "a"), ("search_path", "public")];
    assert!(!judged(&settings, &pairs).is_empty());
}

#[test]
fn of_values_of_one_name_the_server_gets_them_in_its_own_order() {
    let options = "-c x.y=1 -c x.y=2 -c x.y=1";
    let pairs = [("user", "a"), ("x.y", "3"), ("options", options)];
    let accepted = accepted(&settings(), &pairs);
    let sent = accepted.upstream.iter();
    let values: Vec<_> = sent
        .filter(|(name, _)| name == "x.y")
        .map(|(_, value)| value)
        .collect();
    assert_eq!(values, ["1", "2", "1", "3"]);
    let back = [
        ("user", "a"),
        ("options", "-c search_path=hr -c search_path=public"),
    ];
    let sent = self::accepted(&settings(), &back).upstream;
    let last = sent.iter().rfind(|(name, _)| name == "search_path");
    assert_eq!(last.map(|(_, value)| &**value), Some("public"));
}

#[test]
fn the_name_that_a_client_gives_itself_is_known_by_either_way() {
    for pairs in [
        [("user", "a"), ("application_name", "psql")],
        [("user", "a"), ("options", "-c Application_Name=psql")],
    ] {
        let accepted = accepted(&settings(), &pairs);
        assert_eq!(accepted.opening.application, "psql", "{pairs:?}");
    }
}
