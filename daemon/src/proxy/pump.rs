//! Moves bytes between the two sockets and the four buffers, with back-pressure: a side
//! is read only while the other side's outgoing buffer is short.

use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};

use bytes::{Buf, BufMut, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};

use super::stream::Stream;
use crate::protocol::{Buffers, LONGEST_ANSWER};

/// Bytes that may wait for a slow reader before the other side is read no more.
const HIGH_WATER: usize = 256 * 1024;
/// A read asks for this much at first, and for up to `READ_MOST` when reads come full.
const READ_LEAST: usize = 4 * 1024;
const READ_MOST: usize = 128 * 1024;

/// What happened on the sockets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Event {
    /// Bytes moved.
    Progress,
    /// The agent sends no more.
    AgentClosed,
    /// The agent can't be reached any more.
    AgentGone,
    /// The upstream sends no more, or can't be reached.
    UpstreamClosed,
}

/// How far each direction is.
#[derive(Debug)]
pub(super) struct Pump {
    agent_read: usize,
    upstream_read: usize,
    agent_closed: bool,
    /// The longest message of the agent that the session holds back: it must fit.
    agent_limit: usize,
    agent_dirty: bool,
    upstream_dirty: bool,
    /// It takes no more, but what it has said may still be there to read.
    upstream_deaf: bool,
}

impl Pump {
    pub(super) fn new(message_limit: usize) -> Self {
        Self {
            agent_read: READ_LEAST,
            upstream_read: READ_LEAST,
            agent_closed: false,
            agent_limit: message_limit.max(HIGH_WATER),
            agent_dirty: false,
            upstream_dirty: false,
            upstream_deaf: false,
        }
    }

    /// Whether the agent has said its last.
    pub(super) fn agent_closed(&self) -> bool {
        self.agent_closed
    }

    /// Writes and reads whatever can be, once; pending if nothing could.
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        io: &mut Buffers,
        agent: &mut Stream,
        upstream: Option<&mut Stream>,
    ) -> Poll<Event> {
        let wrote = write_all(cx, agent, &mut io.to_agent, &mut self.agent_dirty);
        let mut progress = match wrote {
            Ok(wrote) => wrote,
            Err(_) => return Poll::Ready(Event::AgentGone),
        };
        if let Some(upstream) = upstream {
            match self.poll_upstream(cx, io, upstream) {
                Ok(moved) => progress |= moved,
                Err(_) => return Poll::Ready(Event::UpstreamClosed),
            }
        }
        let room = io.to_upstream.len() < HIGH_WATER && io.from_agent.len() <= self.agent_limit;
        if room && !self.agent_closed {
            match read(cx, agent, &mut io.from_agent, &mut self.agent_read) {
                Poll::Ready(Ok(1..)) => progress = true,
                Poll::Ready(result) if is_end(&result) => {
                    self.agent_closed = true;
                    return Poll::Ready(Event::AgentClosed);
                }
                Poll::Ready(_) => return Poll::Ready(Event::AgentGone),
                Poll::Pending => {}
            }
        }
        if progress {
            Poll::Ready(Event::Progress)
        } else {
            Poll::Pending
        }
    }

    fn poll_upstream(
        &mut self,
        cx: &mut Context<'_>,
        io: &mut Buffers,
        upstream: &mut Stream,
    ) -> io::Result<bool> {
        let mut progress = false;
        if !self.upstream_deaf {
            let dirty = &mut self.upstream_dirty;
            match write_all(cx, upstream, &mut io.to_upstream, dirty) {
                Ok(wrote) => progress = wrote,
                // It may have said why before it went.
                Err(_) => {
                    self.upstream_deaf = true;
                    progress = true;
                }
            }
        }
        if self.upstream_deaf {
            io.to_upstream.clear();
        }
        if io.to_agent.len() < HIGH_WATER && io.from_upstream.len() <= LONGEST_ANSWER {
            match read(cx, upstream, &mut io.from_upstream, &mut self.upstream_read) {
                Poll::Ready(Ok(0)) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Poll::Ready(Ok(_)) => progress = true,
                Poll::Ready(Err(error)) => return Err(error),
                Poll::Pending => {}
            }
        }
        Ok(progress)
    }
}

/// Writes what it can, and sees to it that what TLS holds back goes out too.
fn write_all(
    cx: &mut Context<'_>,
    socket: &mut Stream,
    bytes: &mut BytesMut,
    dirty: &mut bool,
) -> io::Result<bool> {
    let wrote = write(cx, socket, bytes)?;
    *dirty |= wrote;
    if *dirty && Pin::new(socket).poll_flush(cx)?.is_ready() {
        *dirty = false;
    }
    Ok(wrote)
}

/// The agent sends no more. One that ends TLS without saying so has said no less: a message
/// that was cut short is never acted upon.
fn is_end(read: &io::Result<usize>) -> bool {
    match read {
        Ok(count) => *count == 0,
        Err(error) => error.kind() == io::ErrorKind::UnexpectedEof,
    }
}

fn write(
    cx: &mut Context<'_>,
    socket: &mut (impl AsyncWrite + Unpin),
    bytes: &mut BytesMut,
) -> io::Result<bool> {
    let mut wrote = false;
    while !bytes.is_empty() {
        match Pin::new(&mut *socket).poll_write(cx, bytes) {
            Poll::Ready(Ok(0)) => return Err(io::ErrorKind::WriteZero.into()),
            Poll::Ready(Ok(count)) => {
                bytes.advance(count);
                wrote = true;
            }
            Poll::Ready(Err(error)) => return Err(error),
            Poll::Pending => return Ok(wrote),
        }
    }
    if wrote {
        // Gives the memory back to whoever reads into it.
        *bytes = BytesMut::new();
    }
    Ok(wrote)
}

fn read(
    cx: &mut Context<'_>,
    socket: &mut (impl AsyncRead + Unpin),
    bytes: &mut BytesMut,
    size: &mut usize,
) -> Poll<io::Result<usize>> {
    bytes.reserve(*size);
    // There may be room for far more than asked for: the buffer grows by doubling.
    let mut room = bytes.limit(*size);
    let result = pin!(socket.read_buf(&mut room)).poll(cx);
    if let Poll::Ready(Ok(count)) = &result {
        *size = if *count >= *size {
            (*size * 2).min(READ_MOST)
        } else {
            (*size / 2).max(READ_LEAST)
        };
    }
    result
}

#[cfg(test)]
mod tests;
