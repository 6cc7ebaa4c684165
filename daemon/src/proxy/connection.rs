//! One connection: finds out whose it is, then answers its protocol session's steps.
//!
//! Everything that a step needs is done here and in order: judge, record, then go on.
//! Whatever can't be tied to a session and a service is reset before a byte is read.

mod admission;
mod cancel;
mod drive;
mod judge;
mod memo;
mod open;
mod outside;

use std::os::fd::AsFd;
use std::sync::Arc;

use tokio::net::TcpStream;

use super::Proxy;
use super::listener::Place;
use crate::dns;
use crate::sys;
use crate::types::PeerAddr;
use admission::Purpose;
pub(super) use admission::tell_dropped;
use drive::Drive;

/// Serves a connection to its end.
pub(super) async fn serve(proxy: &Arc<Proxy>, agent: TcpStream, peer: PeerAddr, place: Place) {
    let Some(purpose) = admission::admit(proxy, peer, place.netns) else {
        reset(&agent);
        return;
    };
    // A connection that has ended already may have left its address, and so its place in
    // the kernel's maps, to another.
    if !matches!(sys::tcp_is_closed(agent.as_fd()), Ok(false)) || agent.set_nodelay(true).is_err() {
        return;
    }
    match purpose {
        Purpose::Service(admitted) => {
            Drive::new(proxy, *admitted, agent).run(place.left).await;
        }
        Purpose::Query(_) if proxy.open() > proxy.limits.connections => reset(&agent),
        Purpose::Query(origin) => {
            // Whoever is left without listeners has no agent to answer any more.
            let mut left = place.left;
            tokio::select! {
                () = dns::serve_stream(&proxy.resolver, &origin, agent) => {}
                () = left.wait() => {}
            }
        }
    }
}

/// Closes with RST, so that the agent fails at once and sees no orderly end.
fn reset(agent: &TcpStream) {
    // If it can't be set, dropping the socket still closes it.
    let _ = agent.set_zero_linger();
}
