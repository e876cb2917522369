//! Any bytes as the answer of a server, once it has the request: a whole answer within its bounds, or a
//! reason. It never waits for more than there is.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use headwater_msk::http::{BODY_BYTES_MAX, exchange};
use http::Request;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A connection whose other side answers when it was asked, and closes.
struct Wire {
    answer: Vec<u8>,
    sent: usize,
    asked: bool,
    reader: Option<Waker>,
}

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.asked {
            self.reader = Some(context.waker().clone());
            return Poll::Pending;
        }
        let end = self.answer.len().min(self.sent + into.remaining());
        into.put_slice(&self.answer[self.sent..end]);
        self.sent = end;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.asked = true;
        if let Some(reader) = self.reader.take() {
            reader.wake();
        }
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

pub(crate) fn run(bytes: &[u8]) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .expect("a runtime without clock and sockets");
    let request = Request::get("http://localhost/role-aliases/fleet/credentials")
        .body(Bytes::new())
        .expect("a request");
    let wire = Wire {
        answer: bytes.to_vec(),
        sent: 0,
        asked: false,
        reader: None,
    };
    match runtime.block_on(exchange("localhost", wire, request)) {
        Ok(response) => {
            assert!(response.body().len() <= BODY_BYTES_MAX.min(bytes.len()));
        }
        Err(error) => assert!(error.to_string().contains("the answer of localhost")),
    }
}
