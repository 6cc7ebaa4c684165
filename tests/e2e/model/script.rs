//! A random conversation: what a client says, the same for the same seed.

use super::wire::message;

/// A small generator of random numbers (splitmix64).
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % limit as u64).expect("small")
    }

    fn of<'t>(&mut self, all: &[&'t str]) -> &'t str {
        all[self.below(all.len())]
    }
}

/// Single statements, for both kinds of query.
const TEXTS: &[&str] = &[
    "SELECT 1",
    "SELECT id, v FROM model.m ORDER BY id",
    "SELECT g FROM generate_series(1, 5) AS g",
    "INSERT INTO model.m VALUES (7, 'seven')",
    "INSERT INTO model.m VALUES (1, 'again')",
    "INSERT INTO model.d VALUES (1)",
    "UPDATE model.m SET v = v || 'z' WHERE id < 3",
    "SELECT 1/0",
    "SELECT nosuch FROM model.m",
    "SELECT * FROM model.nosuch",
    "this is no statement",
    "",
    "/* nothing */",
    "BEGIN",
    "BEGIN",
    "COMMIT",
    "ROLLBACK",
    "SAVEPOINT s",
    "ROLLBACK TO s",
    "RELEASE s",
    "SET CONSTRAINTS ALL IMMEDIATE",
    "PREPARE q AS SELECT 5",
    "PREPARE q AS SELECT v FROM model.m ORDER BY id",
    "EXECUTE q",
    "EXECUTE s",
    "DEALLOCATE q",
    "DEALLOCATE ALL",
    "DECLARE c CURSOR FOR SELECT id FROM model.m ORDER BY id",
    "DECLARE p CURSOR FOR SELECT v FROM model.m ORDER BY id",
    "DECLARE h CURSOR WITH HOLD FOR SELECT id FROM model.m ORDER BY id",
    "FETCH 2 FROM c",
    "FETCH 1 FROM h",
    "FETCH 1 FROM p",
    "MOVE 1 IN c",
    "CLOSE c",
    "CLOSE ALL",
    "DISCARD ALL",
    "COPY (SELECT id, v FROM model.m ORDER BY id) TO STDOUT",
    "LISTEN ch",
    "NOTIFY ch, 'heard'",
    "SET application_name = 'model'",
    "SET client_encoding = 'LATIN1'",
    "SET client_encoding = 'UTF8'",
    "SELECT 'd\u{e9}j\u{e0} vu'",
    "DO $$ BEGIN RAISE NOTICE 'noticed'; END $$",
    "SELECT pg_sleep(0.002)",
    "RESET ALL",
    "SET standard_conforming_strings = off",
    "SET standard_conforming_strings = on",
    "SELECT 'it\\'s', 'x'",
    "SET search_path = model, pg_catalog",
    "SELECT id FROM m ORDER BY id",
    "SHOW search_path",
    "SET client_encoding = 'SJIS'",
    "DECLARE b BINARY CURSOR FOR SELECT id, v FROM model.m ORDER BY id",
    "FETCH ALL FROM b",
    "DECLARE c SCROLL CURSOR FOR SELECT id FROM model.m ORDER BY id",
    "FETCH BACKWARD 1 FROM c",
    "FETCH 0 FROM c",
    "INSERT INTO model.m SELECT g, 'many' FROM generate_series(30, 40) AS g RETURNING id",
    "COPY model.m TO STDOUT (FORMAT csv, HEADER)",
    "COPY model.m TO STDOUT (FORMAT binary)",
    "UNLISTEN *",
    "SELECT pg_notify('ch', 'by function')",
    "SELECT pg_listening_channels()",
    "SELECT name FROM pg_prepared_statements ORDER BY name",
    "SELECT name, is_holdable FROM pg_cursors ORDER BY name",
    "SELECT $1::int + 1",
    "INSERT INTO model.m VALUES ($1, $2)",
];

/// Several statements in one, for simple queries.
const SEVERAL: &[&str] = &[
    "SELECT 1; SELECT 2",
    "BEGIN; INSERT INTO model.m VALUES (8, 'eight'); COMMIT",
    "INSERT INTO model.m VALUES (9, 'nine'); SELECT 1/0",
    "SELECT 1; this is no statement",
    "COMMIT; BEGIN; SELECT 3",
    "PREPARE q AS SELECT 6; EXECUTE q",
    "INSERT INTO model.d VALUES (2); INSERT INTO model.d VALUES (2)",
    ";;",
];

const COPIES: &[&str] = &[
    "COPY model.m FROM STDIN",
    "COPY model.m (id) FROM STDIN",
    "COPY model.nosuch FROM STDIN",
    "COPY model.m FROM STDIN (FORMAT csv)",
    "COPY model.m FROM STDIN (FORMAT binary)",
];

const STATEMENTS: &[&str] = &["", "", "", "s", "t", "q"];
const PORTALS: &[&str] = &["", "", "", "p", "c", "b"];
/// What COPY's binary format begins and ends with.
const BINARY: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
const BINARY_END: &[u8] = &[0xff, 0xff];

/// What a client says, up to its goodbye.
pub struct Script {
    pub seed: u64,
    messages: Vec<Vec<u8>>,
}

impl Script {
    /// The conversation of this seed; `denied` is said now and then.
    pub fn random(seed: u64, denied: Option<&str>) -> Self {
        let mut writer = Writer {
            random: Random::new(seed),
            messages: Vec::new(),
            denied: denied.map(str::to_owned),
        };
        for _ in 0..4 + writer.random.below(30) {
            writer.something();
        }
        writer.say(b'S', b"");
        writer.text(b'Q', "ROLLBACK");
        writer.text(b'Q', "SELECT id, v FROM model.m ORDER BY id");
        writer.say(b'X', b"");
        let messages = writer.messages;
        Self { seed, messages }
    }

    pub fn bytes(&self) -> Vec<u8> {
        self.messages.concat()
    }

    /// For people.
    pub fn shown(&self) -> String {
        let show = |message: &Vec<u8>| {
            let body = String::from_utf8_lossy(message.get(5..).unwrap_or_default());
            format!("{} {body:?}\n", char::from(message[0]))
        };
        self.messages.iter().map(show).collect()
    }
}

struct Writer {
    random: Random,
    messages: Vec<Vec<u8>>,
    denied: Option<String>,
}

impl Writer {
    fn say(&mut self, tag: u8, body: &[u8]) {
        self.messages.push(message(tag, body));
    }

    fn text(&mut self, tag: u8, text: &str) {
        self.say(tag, format!("{text}\0").as_bytes());
    }

    fn something(&mut self) {
        match self.random.below(22) {
            20 => self.with_values(),
            21 => self.in_parts(),
            0..=4 => {
                let text = self.statement(true);
                self.text(b'Q', &text);
            }
            5..=8 => self.run_one(),
            9 => self.parse(),
            10 => self.bind(),
            11 | 12 => self.execute(),
            13 => self.about(b'D'),
            14 => self.about(b'C'),
            15 => self.say(b'H', b""),
            16 => self.call(),
            17 => self.copy(),
            _ => self.say(b'S', b""),
        }
    }

    fn statement(&mut self, simple: bool) -> String {
        match self.random.below(8) {
            0 if simple => self.random.of(SEVERAL).to_owned(),
            1 if self.denied.is_some() => self.denied.clone().unwrap_or_default(),
            _ => self.random.of(TEXTS).to_owned(),
        }
    }

    /// As drivers do: all of it and mostly a Sync.
    fn run_one(&mut self) {
        self.parse();
        if let Some(last) = self.messages.last() {
            // The statement that was just parsed, by name.
            let name: Vec<u8> = last[5..].iter().copied().take_while(|b| *b != 0).collect();
            self.say(b'B', &[b"\0", &name[..], &[0; 7][..]].concat());
        }
        if self.random.below(2) == 0 {
            self.say(b'D', b"P\0");
        }
        self.say(b'E', &[0; 5]);
        if self.random.below(3) > 0 {
            self.say(b'S', b"");
        }
    }

    fn parse(&mut self) {
        let name = self.random.of(STATEMENTS);
        let text = self.statement(false);
        self.say(b'P', format!("{name}\0{text}\0\0\0").as_bytes());
    }

    fn bind(&mut self) {
        let (portal, statement) = (self.random.of(PORTALS), self.random.of(STATEMENTS));
        let formats = match self.random.below(3) {
            0 => "\0\x01\0\x01",
            _ => "\0\0",
        };
        self.say(
            b'B',
            format!("{portal}\0{statement}\0\0\0\0\0{formats}").as_bytes(),
        );
    }

    fn execute(&mut self) {
        let portal = self.random.of(PORTALS);
        let rows = u8::try_from(self.random.below(3)).expect("small");
        self.say(b'E', &[portal.as_bytes(), &[0, 0, 0, 0, rows]].concat());
    }

    /// A statement with parameters, as text or binary, and now and then too few of them.
    fn with_values(&mut self) {
        let name = self.random.of(STATEMENTS);
        let (text, count) = match self.random.below(2) {
            0 => ("SELECT $1::int + 1", 1),
            _ => ("INSERT INTO model.m VALUES ($1, $2)", 2),
        };
        self.say(b'P', format!("{name}\0{text}\0\0\0").as_bytes());
        if self.random.below(2) == 0 {
            self.text(b'D', &format!("S{name}"));
        }
        let binary = u8::try_from(self.random.below(2)).expect("small");
        let mut body = format!("\0{name}\0").into_bytes();
        body.extend([0, 1, 0, binary, 0, count]);
        for number in 0..count {
            let value: &[u8] = match (number, binary) {
                (0, 1) => &[0, 0, 0, 50],
                (0, _) => b"51",
                _ => b"value",
            };
            body.extend(u32::try_from(value.len()).expect("short").to_be_bytes());
            body.extend(value);
        }
        body.extend([0, 0]);
        self.say(b'B', &body);
        self.say(b'E', &[0; 5]);
        if self.random.below(3) > 0 {
            self.say(b'S', b"");
        }
    }

    /// One portal, a few rows at a time, with other things between.
    fn in_parts(&mut self) {
        let portal = self.random.of(PORTALS);
        let text = self.random.of(&[
            "SELECT g FROM generate_series(1, 7) AS g",
            "INSERT INTO model.m SELECT g, 'p' FROM generate_series(60, 66) AS g RETURNING id",
            "SELECT id FROM model.m ORDER BY id",
            "UPDATE model.m SET v = 'u'",
        ]);
        if self.random.below(2) == 0 {
            self.text(b'Q', "BEGIN");
        }
        self.say(b'P', format!("\0{text}\0\0\0").as_bytes());
        self.say(b'B', format!("{portal}\0\0\0\0\0\0\0\0").as_bytes());
        for _ in 0..1 + self.random.below(4) {
            let rows = u8::try_from(self.random.below(4)).expect("small");
            self.say(b'E', &[portal.as_bytes(), &[0, 0, 0, 0, rows]].concat());
            match self.random.below(6) {
                0 => self.say(b'S', b""),
                1 => self.say(b'H', b""),
                2 => self.text(b'D', &format!("P{portal}")),
                _ => {}
            }
        }
        if self.random.below(2) == 0 {
            self.text(b'C', &format!("P{portal}"));
        }
        self.say(b'S', b"");
    }

    fn about(&mut self, tag: u8) {
        let (kind, name) = match self.random.below(2) {
            0 => ("S", self.random.of(STATEMENTS)),
            _ => ("P", self.random.of(PORTALS)),
        };
        self.text(tag, &format!("{kind}{name}"));
    }

    /// int4pl(2, 3), and a function that there is not.
    fn call(&mut self) {
        let oid: i32 = if self.random.below(4) == 0 { 1 } else { 177 };
        let number = |value: i32| [4_i32.to_be_bytes(), value.to_be_bytes()].concat();
        let body = [
            &oid.to_be_bytes()[..],
            &[0, 1, 0, 1, 0, 2],
            &number(2),
            &number(3),
            &[0, 1],
        ];
        self.say(b'F', &body.concat());
    }

    /// COPY with data that may be bad, an end that may be a failure; in one query or two.
    fn copy(&mut self) {
        let text = self.random.of(COPIES);
        let several = self.random.below(3) == 0;
        if several {
            self.text(b'Q', &format!("{text}; {text}"));
            self.data();
        } else if self.random.below(2) == 0 {
            self.text(b'Q', text);
        } else {
            self.say(b'P', format!("\0{text}\0\0\0").as_bytes());
            self.say(b'B', &[0; 8]);
            self.say(b'E', &[0; 5]);
            // libpq says so before it knows that a COPY begins.
            if self.random.below(2) == 0 {
                self.say(b'S', b"");
            }
        }
        self.data();
        self.say(b'S', b"");
    }

    fn data(&mut self) {
        if self.random.below(8) == 0 {
            self.binary_data();
        }
        for _ in 0..self.random.below(4) {
            let id = 20 + self.random.below(6);
            let line = match self.random.below(8) {
                0 => "bad\tdata\textra\n".to_owned(),
                1 => "\\.\n".to_owned(),
                2 => format!("{id},csv\n"),
                _ => format!("{id}\tcopied\n"),
            };
            self.say(b'd', line.as_bytes());
        }
        match self.random.below(4) {
            0 => self.text(b'f', "changed my mind"),
            _ => self.say(b'c', b""),
        }
    }

    /// One row, and the end; in one message or three.
    fn binary_data(&mut self) {
        let row = [&[0, 2, 0, 0, 0, 4, 0, 0, 0, 70, 0, 0, 0, 1][..], b"b"].concat();
        let parts = [BINARY, &row, BINARY_END];
        if self.random.below(2) == 0 {
            self.say(b'd', &parts.concat());
        } else {
            parts.iter().for_each(|part| self.say(b'd', part));
        }
    }
}
