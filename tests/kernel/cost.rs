//! What the gate costs: a measurement, not a test; `cargo xtask bench gate` runs it and
//! reads its lines `@@gate NAME VALUE`.
//!
//! With and without are two agents that are alike but for the cgroup, asked in turn, so
//! that a busy moment of the machine hits both. The work is the kernel's: the debug build
//! of this binary is good enough.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use portcullis::types::SessionId;

use crate::agent::Agent;
use crate::bench::Bench;

/// Connections in one round, and rounds of them.
const CONNECTS: (usize, usize) = (200, 21);
/// Mebibytes in one round, and rounds of them.
const BULK: (usize, usize) = (16, 401);
const SESSIONS: usize = 1_000;

#[test]
#[ignore = "a measurement: cargo xtask bench gate"]
fn of_the_gate() {
    sessions();
    let bench = Bench::new();
    let server = Server::start(bench.listener4.try_clone().expect("dup"));
    let (_session, inside) = bench.session();
    let outside = Agent::start_outside();
    let service: SocketAddr = "192.0.2.1:5432".parse().expect("literal");
    let mut pair = Pair {
        agents: [
            (outside, bench.config.listener.v4.into()),
            (inside, service),
        ],
    };
    pair.measure("connects", CONNECTS);
    pair.measure("send", BULK);
    pair.measure("receive", BULK);
    drop(pair);
    server.stop();
}

/// Two agents and where each connects: one past the gate, one through it.
struct Pair {
    agents: [(Agent, SocketAddr); 2],
}

impl Pair {
    /// Asks both in turn and prints the median of each, and of the ratio of each
    /// pair: a busy moment hits both of a pair.
    fn measure(&mut self, what: &str, (amount, rounds): (usize, usize)) {
        let mut samples = [Vec::new(), Vec::new()];
        for round in 0..=rounds {
            for (samples, (agent, to)) in samples.iter_mut().zip(&mut self.agents) {
                let answer = agent.ask(&format!("{what} {to} {amount}"));
                let value = answer
                    .strip_prefix("ok ")
                    .and_then(|text| text.parse().ok());
                let value: f64 = value.unwrap_or_else(|| panic!("{what}: {answer}"));
                // The first round warms up.
                if round > 0 {
                    samples.push(value);
                }
            }
        }
        let pairs = samples[0].iter().zip(&samples[1]);
        let ratios = pairs.map(|(without, with)| with / without).collect();
        say(&format!("{what}_ratio"), median(ratios));
        let [without, with] = samples.map(median);
        say(&format!("{what}_without"), without);
        say(&format!("{what}_with"), with);
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn say(name: &str, value: f64) {
    println!("@@gate {name} {value:.3}");
}

/// Serves both agents: the first byte says what the connection is for.
struct Server {
    stop: Arc<AtomicBool>,
    thread: std::thread::JoinHandle<()>,
}

impl Server {
    fn start(listener: TcpListener) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                match listener.accept() {
                    Ok((stream, _)) => serve(stream),
                    Err(_) => std::thread::sleep(Duration::from_micros(50)),
                }
            }
        });
        Self { stop, thread }
    }

    fn stop(self) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("the server");
    }
}

/// Until the agent closes.
fn serve(mut stream: std::net::TcpStream) {
    stream.set_nonblocking(false).expect("blocking");
    let mut buffer = vec![0; 1 << 16];
    match stream.read(&mut buffer) {
        // No pair of addresses is kept busy afterwards.
        Ok(_) if buffer.first() == Some(&b'c') => reset(&stream),
        Ok(read) if buffer.first() == Some(&b'r') && read > 0 => {
            while stream.write_all(&buffer).is_ok() {}
        }
        _ => while stream.read(&mut buffer).is_ok_and(|read| read > 0) {},
    }
}

fn reset(stream: &std::net::TcpStream) {
    let socket = socket2::SockRef::from(stream);
    socket.set_linger(Some(Duration::ZERO)).expect("SO_LINGER");
}

/// Time and memory of a thousand sessions, each with a cgroup of its own.
fn sessions() {
    let start = Instant::now();
    let bench = Bench::new();
    say("start_ms", start.elapsed().as_secs_f64() * 1000.0);
    let before = kernel_memory();
    let mut times = Vec::new();
    for _ in 0..SESSIONS {
        let start = Instant::now();
        let gate = bench.gate();
        let session = gate.create_session_cgroup(gate.enforced(), &SessionId::random());
        let session = session.expect("a cgroup");
        gate.open_session(session.id).expect("open");
        times.push(start.elapsed().as_secs_f64() * 1e6);
    }
    let memory = (kernel_memory() - before) / SESSIONS as f64;
    times.sort_by(f64::total_cmp);
    say("session_us", times[SESSIONS / 2]);
    say("session_p99_us", times[SESSIONS * 99 / 100]);
    say("session_kib", memory);
    say("maps_kib", maps_memory(&bench));
}

/// Slab and per-CPU memory of the kernel in KiB (proc_meminfo(5)).
fn kernel_memory() -> f64 {
    let text = std::fs::read_to_string("/proc/meminfo").expect("meminfo");
    let field = |name: &str| -> f64 {
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        let word = line.and_then(|rest| rest.split_whitespace().next());
        word.and_then(|word| word.parse().ok()).unwrap_or(0.0)
    };
    field("Slab:") + field("Percpu:")
}

/// What the kernel has set aside for the pinned maps, in KiB.
fn maps_memory(bench: &Bench) -> f64 {
    use std::os::fd::AsRawFd;
    let pins = bench.bpffs.pins("portcullis/maps");
    let bytes = pins.iter().map(|pin| {
        let path = std::ffi::CString::new(pin.as_os_str().as_encoded_bytes()).expect("a path");
        let map = portcullis::sys::bpf_object(&path).expect("a pinned map");
        let info = format!("/proc/self/fdinfo/{}", map.as_raw_fd());
        let text = std::fs::read_to_string(info).expect("fdinfo");
        let field = text.lines().find_map(|line| line.strip_prefix("memlock:"));
        field
            .and_then(|text| text.trim().parse::<f64>().ok())
            .unwrap_or(0.0)
    });
    bytes.sum::<f64>() / 1024.0
}
