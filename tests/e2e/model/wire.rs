//! The protocol's bytes: a client that sends what it is told and keeps what it hears.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use postgres_protocol::authentication::sasl::{ChannelBinding, SCRAM_SHA_256, ScramSha256};

use super::script::Random;

/// A tag and a body.
pub type Message = (u8, Vec<u8>);

/// The bytes of a message.
pub fn message(tag: u8, body: &[u8]) -> Vec<u8> {
    let length = i32::try_from(body.len() + 4).expect("short");
    [&[tag], &length.to_be_bytes()[..], body].concat()
}

/// A connection that is logged in.
pub struct Client(TcpStream);

impl Client {
    /// Logs in; `password` where the server itself is asked. None if it does not let us.
    pub fn login(port: u16, user: &str, password: Option<&str>) -> Option<Self> {
        let socket = TcpStream::connect(("127.0.0.1", port)).expect("connects");
        socket.set_nodelay(true).expect("nodelay");
        socket
            .set_read_timeout(Some(Duration::from_secs(20)))
            .expect("timeout");
        let mut client = Self(socket);
        let mut body = 196_608_i32.to_be_bytes().to_vec();
        for word in ["user", user, "database", "shop", "client_encoding", "UTF8"] {
            body.extend_from_slice(word.as_bytes());
            body.push(0);
        }
        body.push(0);
        let length = i32::try_from(body.len() + 4).expect("short");
        client.send(&[&length.to_be_bytes()[..], &body].concat());
        if let Some(password) = password {
            client.prove(password)?;
        }
        client.until_ready()?;
        Some(client)
    }

    fn prove(&mut self, password: &str) -> Option<()> {
        let mut scram = ScramSha256::new(password.as_bytes(), ChannelBinding::unsupported());
        self.next().filter(|(tag, _)| *tag == b'R')?;
        let first = scram.message();
        let length = i32::try_from(first.len()).expect("short").to_be_bytes();
        let body = [SCRAM_SHA_256.as_bytes(), b"\0", &length, first].concat();
        self.send(&message(b'p', &body));
        let (_, challenge) = self.next()?;
        scram.update(&challenge[4..]).expect("a good challenge");
        self.send(&message(b'p', scram.message()));
        let (_, last) = self.next()?;
        scram.finish(&last[4..]).expect("a good signature");
        Some(())
    }

    /// The tables as each conversation finds them.
    pub fn reset_tables(&mut self) -> Option<()> {
        let sql = "TRUNCATE model.m, model.d; \
                   INSERT INTO model.m VALUES (1, 'a'), (2, 'b'), (3, 'c')\0";
        self.send(&message(b'Q', sql.as_bytes()));
        let answers = self.until_ready()?;
        let good = answers.iter().all(|(tag, _)| *tag != b'E');
        good.then_some(())
    }

    fn send(&mut self, bytes: &[u8]) {
        // If it can't be, the answer will not come.
        let _ = self.0.write_all(bytes);
    }

    /// Sends it in pieces of random lengths. The other side may close at any time.
    pub fn send_in_pieces(&mut self, bytes: &[u8], random: &mut Random) {
        let mut rest = bytes;
        while !rest.is_empty() {
            let most = rest.len().min(1 + random.below(400));
            let (piece, behind) = rest.split_at(most);
            if self.0.write_all(piece).is_err() {
                return;
            }
            rest = behind;
        }
    }

    fn next(&mut self) -> Option<Message> {
        let mut head = [0; 5];
        self.0.read_exact(&mut head).ok()?;
        let [tag, length @ ..] = head;
        let length = usize::try_from(i32::from_be_bytes(length)).expect("a length");
        let mut body = vec![0; length - 4];
        self.0.read_exact(&mut body).ok()?;
        Some((tag, body))
    }

    fn until_ready(&mut self) -> Option<Vec<Message>> {
        let mut seen = Vec::new();
        loop {
            let next = self.next()?;
            let done = next.0 == b'Z';
            seen.push(next);
            if done {
                return Some(seen);
            }
        }
    }

    /// Everything up to the end of the connection.
    pub fn rest(mut self) -> Vec<Message> {
        let mut seen = Vec::new();
        while let Some(next) = self.next() {
            seen.push(next);
        }
        let mut more = [0];
        let end = self.0.read(&mut more).map_err(|error| error.kind());
        let timed_out = matches!(end, Err(std::io::ErrorKind::WouldBlock));
        assert!(
            !timed_out,
            "no end came after {}",
            shown(&seen, "").join("\n")
        );
        let _ = self.0.shutdown(Shutdown::Both);
        seen
    }
}

/// One line for each message; what may differ is left out.
pub fn shown(messages: &[Message], failing: &str) -> Vec<String> {
    messages
        .iter()
        .map(|(tag, body)| {
            let text = String::from_utf8_lossy(body);
            let denied = text.contains("C42501\0")
                || (!failing.is_empty() && *tag == b'E' && text.contains(failing));
            match tag {
                b'E' if denied => "E denied".into(),
                // It starts with a process id.
                b'A' => format!("A {:?}", body.get(4..).map(String::from_utf8_lossy)),
                tag => format!("{} {text:?}", char::from(*tag)),
            }
        })
        .collect()
}

/// Appends a conversation's answers to a file's bytes.
pub fn join(file: &mut Vec<u8>, messages: &[Message]) {
    let bytes: Vec<u8> = messages
        .iter()
        .flat_map(|(tag, body)| message(*tag, body))
        .collect();
    file.extend(u64::try_from(bytes.len()).expect("short").to_be_bytes());
    file.extend(bytes);
}

/// The reverse of [`join`].
pub fn split(mut file: &[u8]) -> Vec<Vec<Message>> {
    let mut all = Vec::new();
    while let Some((length, rest)) = file.split_first_chunk() {
        let length = usize::try_from(u64::from_be_bytes(*length)).expect("short");
        let (mut bytes, behind) = rest.split_at(length);
        let mut messages = Vec::new();
        while let Some((head, rest)) = bytes.split_first_chunk::<5>() {
            let [tag, length @ ..] = *head;
            let length = usize::try_from(i32::from_be_bytes(length)).expect("a length") - 4;
            let (body, behind) = rest.split_at(length);
            messages.push((tag, body.to_vec()));
            bytes = behind;
        }
        all.push(messages);
        file = behind;
    }
    all
}
