//! The kernel programs of Portcullis: maps and entry points; what each hook does is in
//! the module of its name.
//!
//! All of them hang on one cgroup, the enforced parent. Invariant: what no program here
//! understands is refused, and so is anything that a full map or a missing entry leaves
//! without an owner. Absent on purpose: policy. The kernel knows destinations and
//! sessions, not who may do what. Oldest kernel: 6.1 (`bpf_set_retval` in these hooks).
#![no_std]
#![no_main]
#![feature(asm_experimental_arch)]

mod bind;
mod connect4;
mod connect6;
mod ctx;
mod dns;
mod egress;
mod event;
mod getpeername4;
mod getpeername6;
mod ingress;
mod lsm;
mod lsm_hooks;
mod packet;
mod post_bind4;
mod post_bind6;
mod recvmsg4;
mod recvmsg6;
mod redirect;
mod sendmsg4;
mod sendmsg6;
mod session;
mod setsockopt;
mod sock_create;
mod sock_ops;
mod sock_release;
mod turned;
mod unix;
mod unix_connect;
mod unix_sendmsg;

use aya_ebpf::bindings::BPF_F_NO_PREALLOC;
use aya_ebpf::btf_maps::SkStorage;
use aya_ebpf::macros::{
    btf_map, cgroup_skb, cgroup_sock, cgroup_sock_addr, cgroup_sockopt, map, sock_ops,
};
use aya_ebpf::maps::{Array, HashMap, LruHashMap, PerCpuArray, RingBuf};
use aya_ebpf::programs::{
    SkBuffContext, SockAddrContext, SockContext, SockOpsContext, SockoptContext,
};
use portcullis_ebpf_common::dns::Asker;
use portcullis_ebpf_common::{DestKey, Listener, Meta, Origin, Session, TupleKey, Turned, UnixKey};

/// What made the pins. Written and read by the daemon only.
#[map]
static META: Array<Meta> = Array::with_max_entries(1, 0);

/// Cgroup id -> session.
#[map]
static SESSIONS: HashMap<u64, Session> = HashMap::with_max_entries(16_384, 0);

/// Network namespace cookie -> the gate's listener there.
#[map]
static LISTENERS: HashMap<u64, Listener> = HashMap::with_max_entries(1_024, 0);

/// Addresses of the policy's services; the value says nothing.
#[map]
static DESTINATIONS: HashMap<DestKey, u32> = HashMap::with_max_entries(16_384, 0);

/// Socket cookie -> what it asked for, from connect() until the gate has accepted it.
/// Not LRU: a full map must refuse, not forget. The daemon sets its size.
#[map]
static ORIGINS: HashMap<u64, Origin> = HashMap::with_max_entries(16_384, 0);

/// The agent's end of a connection -> socket cookie. As large as ORIGINS, which has an
/// entry for each of these.
#[map]
static TUPLES: HashMap<TupleKey, u64> = HashMap::with_max_entries(16_384, 0);

/// Socket -> where it was turned.
#[btf_map]
static TURNED: SkStorage<Turned> = SkStorage::new();

/// Unix addresses that sessions may use; the value says nothing.
#[map]
static UNIX_ALLOWED: HashMap<UnixKey, u32> = HashMap::with_max_entries(16_384, BPF_F_NO_PREALLOC);

/// Socket -> who asked the resolver by it.
#[btf_map]
static ASKERS: SkStorage<Asker> = SkStorage::new();

/// Where a query comes from -> who asked. LRU: what is forgotten is not answered.
#[map]
static QUERIES: LruHashMap<TupleKey, Asker> = LruHashMap::with_max_entries(16_384, 0);

/// Refusals, as `GateEvent`.
#[map]
static EVENTS: RingBuf = RingBuf::with_byte_size(256 * 1024, 0);

/// How many refusals found EVENTS full.
#[map]
static LOST: PerCpuArray<u64> = PerCpuArray::with_max_entries(1, 0);

#[cgroup_sock_addr(connect4)]
fn connect4(ctx: SockAddrContext) -> i32 {
    connect4::run(&ctx)
}

#[cgroup_sock_addr(connect6)]
fn connect6(ctx: SockAddrContext) -> i32 {
    connect6::run(&ctx)
}

#[cgroup_sock_addr(sendmsg4)]
fn sendmsg4(ctx: SockAddrContext) -> i32 {
    sendmsg4::run(&ctx)
}

#[cgroup_sock_addr(sendmsg6)]
fn sendmsg6(ctx: SockAddrContext) -> i32 {
    sendmsg6::run(&ctx)
}

#[cgroup_sock(sock_create)]
fn sock_create(ctx: SockContext) -> i32 {
    sock_create::run(&ctx)
}

#[cgroup_sock(sock_release)]
fn sock_release(ctx: SockContext) -> i32 {
    sock_release::run(&ctx)
}

#[sock_ops]
fn sock_ops(ctx: SockOpsContext) -> u32 {
    sock_ops::run(&ctx)
}

#[cgroup_skb(egress)]
fn egress(ctx: SkBuffContext) -> i32 {
    egress::run(&ctx)
}

#[cgroup_skb(ingress)]
fn ingress(ctx: SkBuffContext) -> i32 {
    ingress::run(&ctx)
}

#[cgroup_sock(post_bind4)]
fn post_bind4(ctx: SockContext) -> i32 {
    post_bind4::run(&ctx)
}

#[cgroup_sock(post_bind6)]
fn post_bind6(ctx: SockContext) -> i32 {
    post_bind6::run(&ctx)
}

#[cgroup_sock_addr(getpeername4)]
fn getpeername4(ctx: SockAddrContext) -> i32 {
    getpeername4::run(&ctx)
}

#[cgroup_sock_addr(getpeername6)]
fn getpeername6(ctx: SockAddrContext) -> i32 {
    getpeername6::run(&ctx)
}

#[cgroup_sockopt(setsockopt)]
fn setsockopt(ctx: SockoptContext) -> i32 {
    setsockopt::run(&ctx)
}

// The two unix hooks have no section name that the loader knows: they are loaded by
// number, and the section given here is not used.
#[cgroup_sock_addr(connect4)]
fn unix_connect(ctx: SockAddrContext) -> i32 {
    unix_connect::run(&ctx)
}

#[cgroup_sock_addr(connect4)]
fn unix_sendmsg(ctx: SockAddrContext) -> i32 {
    unix_sendmsg::run(&ctx)
}

#[cgroup_sock_addr(recvmsg4)]
fn recvmsg4(ctx: SockAddrContext) -> i32 {
    recvmsg4::run(&ctx)
}

#[cgroup_sock_addr(recvmsg6)]
fn recvmsg6(ctx: SockAddrContext) -> i32 {
    recvmsg6::run(&ctx)
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
