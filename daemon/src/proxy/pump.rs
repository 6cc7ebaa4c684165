//! Moves bytes between the two sockets and the four buffers, with back-pressure: a side
//! is read only while the other side's outgoing buffer is short.

use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, BufMut, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::time::{Sleep, sleep};

use super::budget::Share;
use super::stream::Stream;
use crate::protocol::{Buffers, LONGEST_ANSWER, Session};

/// Bytes that may wait for a slow reader before the other side is read no more.
const HIGH_WATER: usize = 256 * 1024;
/// A read asks for this much at first, and for up to `READ_MOST` when reads come full.
const READ_LEAST: usize = 4 * 1024;
const READ_MOST: usize = 128 * 1024;

/// Nobody tells who waits for room that others have given some back: it looks again.
const RETRY: Duration = Duration::from_millis(100);

/// Bytes that an empty buffer keeps for what comes next.
const KEPT: usize = 2 * READ_LEAST;

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
    /// A message can't be held: all connections together hold as much as they may.
    NoRoom,
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
    /// What this connection holds of the memory of all.
    share: Share,
    /// What the session holds beside the buffers.
    kept: usize,
    /// The session waits for an answer before it takes more from the agent.
    waiting: bool,
    /// Something could be read if there were room.
    starved: bool,
    /// When it is tried again.
    retry: Option<Pin<Box<Sleep>>>,
    upstream_dirty: bool,
    /// It takes no more, but what it has said may still be there to read.
    upstream_deaf: bool,
}

impl Pump {
    pub(super) fn new(message_limit: usize, share: Share) -> Self {
        Self {
            agent_read: READ_LEAST,
            upstream_read: READ_LEAST,
            agent_closed: false,
            agent_limit: message_limit.max(HIGH_WATER),
            agent_dirty: false,
            share,
            kept: 0,
            waiting: false,
            starved: false,
            retry: None,
            upstream_dirty: false,
            upstream_deaf: false,
        }
    }

    /// Whether the agent has said its last.
    pub(super) fn agent_closed(&self) -> bool {
        self.agent_closed
    }

    /// What the session holds beside the buffers, in bytes, and whether it waits for an
    /// answer before it takes more from the agent.
    pub(super) fn hear(&mut self, session: &dyn Session) {
        self.kept = session.holds();
        self.waiting = session.is_waiting();
    }

    /// Writes whatever can be, and reads once; pending if nothing was read.
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        io: &mut Buffers,
        agent: &mut Stream,
        mut upstream: Option<&mut Stream>,
    ) -> Poll<Event> {
        loop {
            self.starved = false;
            let moved = self.try_move(cx, io, agent, upstream.as_deref_mut());
            if moved.is_ready() || !self.starved {
                self.retry = None;
                return moved;
            }
            let retry = self.retry.get_or_insert_with(|| Box::pin(sleep(RETRY)));
            ready!(retry.as_mut().poll(cx));
            self.retry = None;
        }
    }

    fn try_move(
        &mut self,
        cx: &mut Context<'_>,
        io: &mut Buffers,
        agent: &mut Stream,
        upstream: Option<&mut Stream>,
    ) -> Poll<Event> {
        // What was only written gives the session nothing to do.
        let mut progress = false;
        if write_all(cx, agent, &mut io.to_agent, &mut self.agent_dirty).is_err() {
            return Poll::Ready(Event::AgentGone);
        }
        if let Some(upstream) = upstream {
            match self.poll_upstream(cx, io, upstream) {
                Ok(moved) => progress |= moved,
                Err(event) => return Poll::Ready(event),
            }
        }
        let open = io.to_upstream.len() < HIGH_WATER && io.from_agent.len() <= self.agent_limit;
        if open && !self.agent_closed {
            match self.poll_agent(cx, io, agent) {
                Ok(moved) => progress |= moved,
                // What was read just now may make room.
                Err(Event::NoRoom) if progress => {}
                Err(event) => return Poll::Ready(event),
            }
        }
        if progress {
            return Poll::Ready(Event::Progress);
        }
        // Who waits holds little.
        release(&mut io.from_agent);
        release(&mut io.from_upstream);
        self.share.hold(self.kept + io.held());
        Poll::Pending
    }

    fn poll_agent(
        &mut self,
        cx: &mut Context<'_>,
        io: &mut Buffers,
        agent: &mut Stream,
    ) -> Result<bool, Event> {
        let (held, ahead) = (io.from_agent.len(), io.to_upstream.len());
        match self.room(io, self.agent_read, held, ahead) {
            Some(size) => self.agent_read = size,
            // What is on its way out makes room, and so do answers that are waited for.
            None if self.waiting || !io.to_agent.is_empty() || !io.to_upstream.is_empty() => {
                self.starved = true;
                match agent.has_ended(cx) {
                    Ok(false) => return Ok(false),
                    // Next to nothing can follow.
                    Ok(true) => self.agent_read = READ_LEAST,
                    Err(_) => return Err(Event::AgentGone),
                }
            }
            None => return Err(Event::NoRoom),
        }
        match read(cx, agent, &mut io.from_agent, &mut self.agent_read) {
            Poll::Ready(Ok(1..)) => Ok(true),
            Poll::Ready(result) if is_end(&result) => {
                self.agent_closed = true;
                Err(Event::AgentClosed)
            }
            Poll::Ready(_) => Err(Event::AgentGone),
            Poll::Pending => Ok(false),
        }
    }

    fn poll_upstream(
        &mut self,
        cx: &mut Context<'_>,
        io: &mut Buffers,
        upstream: &mut Stream,
    ) -> Result<bool, Event> {
        let mut progress = false;
        if !self.upstream_deaf {
            let dirty = &mut self.upstream_dirty;
            match write_all(cx, upstream, &mut io.to_upstream, dirty) {
                // Then it may be told that nothing more will come.
                Ok(wrote) => progress = wrote && self.agent_closed,
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
        let open = io.to_agent.len() < HIGH_WATER && io.from_upstream.len() <= LONGEST_ANSWER;
        if open {
            let (held, ahead) = (io.from_upstream.len(), io.to_agent.len());
            match self.room(io, self.upstream_read, held, ahead) {
                Some(size) => self.upstream_read = size,
                // What is on its way to the agent makes room. What the upstream is to read
                // may not: it may read nothing before it has said what it says now.
                None if progress || !io.to_agent.is_empty() => {
                    self.starved = true;
                    return Ok(progress);
                }
                None => return Err(Event::NoRoom),
            }
            match read(cx, upstream, &mut io.from_upstream, &mut self.upstream_read) {
                Poll::Ready(Ok(0) | Err(_)) => return Err(Event::UpstreamClosed),
                Poll::Ready(Ok(_)) => progress = true,
                Poll::Pending => {}
            }
        }
        Ok(progress)
    }

    /// How much may be read into a buffer that holds `held` bytes, and whose way out holds
    /// `ahead`; none if there is no room.
    fn room(&mut self, io: &Buffers, wanted: usize, held: usize, ahead: usize) -> Option<usize> {
        // Where there is little left, little is read at once.
        let sizes = [wanted, READ_LEAST];
        let holding = self.kept + io.held();
        let fits = sizes
            .into_iter()
            .find(|size| self.share.hold(holding + size));
        // So little that it need not be asked for: something always moves.
        fits.or((held < READ_LEAST && ahead == 0).then_some(READ_LEAST))
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
        release(bytes);
    }
    Ok(wrote)
}

/// Gives the memory of an empty buffer back if it is much, or shared with another buffer
/// that can then use all of it.
fn release(bytes: &mut BytesMut) {
    if bytes.is_empty() {
        let own = bytes.try_reclaim(1);
        if !own || bytes.try_reclaim(KEPT + 1) {
            *bytes = BytesMut::new();
        }
    }
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
