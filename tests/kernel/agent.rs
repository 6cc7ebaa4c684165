//! A process that does what it is told, line by line, in a cgroup of the test's choice.
//!
//! It is this test binary again, started on the one test [`agent_process`] with
//! [`MARK`] set. Each request is one line, each answer `ok ...` or the errno's name.

use std::collections::HashMap;
use std::env;
use std::io::{BufRead, BufReader, Read, Write, stdin};
use std::net::{SocketAddr, UdpSocket};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::unistd::{Gid, Uid, setresgid, setresuid};
use portcullis::capture::cgroupfs;
use socket2::{Domain, Protocol, SockAddr, SockAddrStorage, Socket, Type};

const MARK: &str = "PORTCULLIS_TEST_AGENT";

/// The parent's side.
pub struct Agent {
    child: Child,
    requests: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Agent {
    /// Starts it in the cgroup.
    pub fn start(cgroup: &Path) -> Self {
        let mut agent = Self::start_outside();
        cgroupfs::move_process(cgroup, agent.pid()).expect("move the agent into its cgroup");
        assert_eq!(agent.ask("hello"), "ok");
        agent
    }

    /// Starts it where the test itself is.
    pub fn start_outside() -> Self {
        let mut child = Command::new(env::current_exe().expect("own path"))
            .args(["--exact", "agent::agent_process", "--nocapture"])
            .env(MARK, "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("start the agent");
        let requests = child.stdin.take().expect("piped");
        let answers = BufReader::new(child.stdout.take().expect("piped"));
        Self {
            child,
            requests,
            answers,
        }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// One request, one answer.
    pub fn ask(&mut self, request: &str) -> String {
        writeln!(self.requests, "{request}").expect("write to the agent");
        let mut line = String::new();
        loop {
            line.clear();
            let read = self
                .answers
                .read_line(&mut line)
                .expect("read from the agent");
            assert!(read > 0, "the agent died at {request:?}");
            // The test harness writes there too.
            if let Some((_, answer)) = line.split_once("@@") {
                return answer.trim_end().to_owned();
            }
        }
    }

    /// connect() to an address; the agent keeps the socket under the name.
    pub fn connect(&mut self, name: &str, to: &str) -> String {
        self.ask(&format!("connect {name} {to}"))
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The agent's side. Without the mark it is a test that passes.
#[test]
fn agent_process() {
    if env::var_os(MARK).is_none() {
        return;
    }
    let mut sockets = HashMap::new();
    for line in stdin().lines() {
        let line = line.expect("read a request");
        let answer = match obey(&line, &mut sockets) {
            Ok(answer) => answer,
            Err(errno) => format!("{errno:?}"),
        };
        println!("@@{answer}");
    }
    std::process::exit(0);
}

fn obey(line: &str, sockets: &mut HashMap<String, Socket>) -> Result<String, Errno> {
    let words: Vec<&str> = line.split(' ').collect();
    match words.as_slice() {
        ["hello"] => {}
        ["uid", id] => {
            let id: u32 = id.parse().expect("a number");
            let (gid, uid) = (Gid::from_raw(id), Uid::from_raw(id));
            setresgid(gid, gid, gid)?;
            setresuid(uid, uid, uid)?;
        }
        ["connect", name, to] => {
            let to: SocketAddr = to.parse().expect("an address");
            let socket = tcp(to)?;
            let result = socket.connect(&to.into()).map_err(errno);
            sockets.insert((*name).to_owned(), socket);
            result?;
        }
        ["again", name, to] => {
            let to: SocketAddr = to.parse().expect("an address");
            sockets[*name].connect(&to.into()).map_err(errno)?;
        }
        ["only6", name] => {
            let socket = Socket::new(Domain::IPV6, Type::STREAM, None).map_err(errno)?;
            socket.set_only_v6(true).map_err(errno)?;
            sockets.insert((*name).to_owned(), socket);
        }
        ["disconnect", name] => {
            // SAFETY: zeros are an address of AF_UNSPEC, which needs 16 bytes of the storage.
            let nobody = unsafe { SockAddr::new(SockAddrStorage::zeroed(), 16) };
            sockets[*name].connect(&nobody).map_err(errno)?;
        }
        ["bind", name, from] => {
            let from: SocketAddr = from.parse().expect("an address");
            let socket = tcp(from)?;
            socket.bind(&from.into()).map_err(errno)?;
            sockets.insert((*name).to_owned(), socket);
        }
        ["write", name, text] => {
            (&sockets[*name])
                .write_all(text.as_bytes())
                .map_err(errno)?;
        }
        ["close", name] => drop(sockets.remove(*name)),
        ["sendto", to] => {
            let to: SocketAddr = to.parse().expect("an address");
            let any = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
            let socket = UdpSocket::bind(any).map_err(errno)?;
            socket.send_to(b"datagram", to).map_err(errno)?;
        }
        ["udp-connect", to] => {
            let to: SocketAddr = to.parse().expect("an address");
            let any = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
            UdpSocket::bind(any)
                .and_then(|socket| socket.connect(to))
                .map_err(errno)?;
        }
        [how @ ("ask" | "ask-connected"), name, to] => {
            let to: SocketAddr = to.parse().expect("an address");
            let socket = Socket::new(Domain::for_address(to), Type::DGRAM, None).map_err(errno)?;
            let limit = Some(Duration::from_secs(1));
            socket.set_read_timeout(limit).map_err(errno)?;
            if *how == "ask" {
                socket.send_to(b"query", &to.into()).map_err(errno)?;
            } else {
                socket.connect(&to.into()).map_err(errno)?;
                socket.send(b"query").map_err(errno)?;
            }
            sockets.insert((*name).to_owned(), socket);
        }
        ["answer", name] => return answer(&sockets[*name]),
        ["socket", family, kind, protocol] => raw_socket(family, kind, protocol)?,
        ["connects", to, count] => return connects(to, count),
        [direction @ ("send" | "receive"), to, size] => return bulk(direction, to, size),
        ["resolve", host] => {
            use std::net::ToSocketAddrs;
            let found = (*host, 80).to_socket_addrs().map_err(errno)?;
            return Ok(format!("ok {}", found.count()));
        }
        other => panic!("no such request: {other:?}"),
    }
    Ok("ok".to_owned())
}

/// The next datagram, where it seems to come from, and the socket's peer if it has one.
fn answer(socket: &Socket) -> Result<String, Errno> {
    let socket = UdpSocket::from(socket.try_clone().map_err(errno)?);
    let mut buffer = [0; 64];
    let (length, from) = socket.recv_from(&mut buffer).map_err(errno)?;
    let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
    let peer = socket.peer_addr();
    let peer = peer.map_or("-".to_owned(), |addr| addr.to_string());
    Ok(format!("{text} {} {peer}", from))
}

fn tcp(peer: SocketAddr) -> Result<Socket, Errno> {
    let socket = Socket::new(Domain::for_address(peer), Type::STREAM, None).map_err(errno)?;
    // Bounds connect() too, where it goes past the gate to an address that nobody has.
    let limit = Some(Duration::from_secs(1));
    socket.set_write_timeout(limit).map_err(errno)?;
    Ok(socket)
}

/// Median time of connect() alone, in nanoseconds.
fn connects(to: &str, count: &str) -> Result<String, Errno> {
    let to: SocketAddr = to.parse().expect("an address");
    let mut times = Vec::new();
    for _ in 0..count.parse().expect("a number") {
        let socket = tcp(to)?;
        let start = Instant::now();
        socket.connect(&to.into()).map_err(errno)?;
        times.push(start.elapsed().as_nanos());
        // The server ends it, by a reset, so that none waits there for the next.
        let mut stream = &socket;
        stream.write_all(b"c").map_err(errno)?;
        let _ = stream.read(&mut [0]);
    }
    times.sort_unstable();
    Ok(format!("ok {}", times[times.len() / 2]))
}

/// Bytes for each microsecond, which is MB/s, in one direction.
fn bulk(direction: &str, to: &str, mebibytes: &str) -> Result<String, Errno> {
    let to: SocketAddr = to.parse().expect("an address");
    let wanted: usize = mebibytes.parse::<usize>().expect("a number") << 20;
    let socket = tcp(to)?;
    socket.connect(&to.into()).map_err(errno)?;
    let mut stream = &socket;
    let mut buffer = vec![0; 1 << 16];
    stream
        .write_all(direction.get(..1).expect("a letter").as_bytes())
        .map_err(errno)?;
    let (start, mut bytes) = (Instant::now(), 0);
    while bytes < wanted {
        bytes += if direction == "send" {
            stream.write(&buffer).map_err(errno)?
        } else {
            stream.read(&mut buffer).map_err(errno)?
        };
    }
    let micros = start.elapsed().as_micros();
    Ok(format!("ok {:.3}", bytes as f64 / micros as f64))
}

fn raw_socket(family: &str, kind: &str, protocol: &str) -> Result<(), Errno> {
    let family = match family {
        "inet" => Domain::IPV4,
        "inet6" => Domain::IPV6,
        other => panic!("no such family: {other}"),
    };
    let kind = match kind {
        "stream" => Type::STREAM,
        "dgram" => Type::DGRAM,
        "raw" => Type::RAW,
        other => panic!("no such type: {other}"),
    };
    let protocol = match protocol {
        "0" => None,
        "tcp" => Some(Protocol::TCP),
        "udp" => Some(Protocol::UDP),
        "icmp" => Some(Protocol::ICMPV4),
        "mptcp" => Some(Protocol::MPTCP),
        "udplite" => Some(Protocol::UDPLITE),
        other => panic!("no such protocol: {other}"),
    };
    Socket::new(family, kind, protocol).map(drop).map_err(errno)
}

fn errno(error: std::io::Error) -> Errno {
    error
        .raw_os_error()
        .map_or(Errno::UnknownErrno, Errno::from_raw)
}
