//! How long a client may take for the head of a request.
//!
//! A connection may be idle between two requests for long: clients keep it for the next one. But once the first byte of a
//! request is there the rest of its head must follow soon, or anybody could hold any number of connections with one byte
//! each. The HTTP library has one limit for both.

use hyper::body::{Body, Frame, SizeHint};
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

/// The requests of a connection: begun and ended ones, so that an odd number means that one is in work, from the end of its
/// head to the end of its answer.
#[derive(Clone, Debug, Default)]
pub(super) struct Requests(Arc<AtomicU64>);

impl Requests {
    /// The head of one is there. It is in work until what is returned is dropped.
    pub(super) fn begin(&self) -> InWork {
        self.0.fetch_add(1, Ordering::Relaxed);
        InWork(self.clone())
    }

    fn count(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A request in work. Dropping it ends it.
#[derive(Debug)]
pub(super) struct InWork(Requests);

impl Drop for InWork {
    fn drop(&mut self) {
        self.0.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// A connection whose reads fail when the head of a request takes longer than `limit`.
#[derive(Debug)]
pub(super) struct Impatient<S> {
    stream: S,
    requests: Requests,
    limit: Duration,
    /// The head that is being read, by the count of requests, and when it must be there. From its first byte on.
    deadline: Option<(u64, Pin<Box<Sleep>>)>,
}

impl<S> Impatient<S> {
    pub(super) fn new(stream: S, requests: Requests, limit: Duration) -> Self {
        Self { stream, requests, limit, deadline: None }
    }

    /// Fails when a head is being read and that takes too long.
    fn check(&mut self, cx: &mut Context<'_>, arrived: bool) -> io::Result<()> {
        let count = self.requests.count();
        self.deadline.take_if(|(of, _)| *of != count);
        let in_work = !count.is_multiple_of(2);
        if in_work {
            return Ok(());
        }
        if self.deadline.is_none() && arrived {
            self.deadline = Some((count, Box::pin(sleep(self.limit))));
        }
        let Some((_, deadline)) = &mut self.deadline else { return Ok(()) };
        // Asked also when bytes come: one every now and then must not put it off.
        if deadline.as_mut().poll(cx).is_ready() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        Ok(())
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Impatient<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(cx, buf);
        let arrived = buf.filled().len() > before;
        // The end of the stream and its breaking are more telling than the time.
        if polled.is_pending() || arrived {
            self.check(cx, arrived)?;
        }
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Impatient<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// An answer's body; its request is in work as long as it is there.
#[derive(Debug)]
pub(super) struct Answering<B> {
    pub(super) body: B,
    pub(super) _in_work: InWork,
}

impl<B: Body + Unpin> Body for Answering<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
