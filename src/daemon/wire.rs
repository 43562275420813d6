//! Lines and file descriptors over a Unix socket.

use super::proto::{FDS_MAX, LINE_MAX};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

/// A stream of lines. Descriptors received are kept until taken; more than [`FDS_MAX`] end the stream.
pub struct Wire {
    stream: UnixStream,
    buf: Vec<u8>,
    /// Bytes of `buf` already searched for a newline.
    seen: usize,
    fds: Vec<OwnedFd>,
}

impl Wire {
    pub fn new(stream: UnixStream) -> Wire {
        Wire {
            stream,
            buf: Vec::new(),
            seen: 0,
            fds: Vec::new(),
        }
    }

    pub fn stream(&self) -> &UnixStream {
        &self.stream
    }

    /// Sends one line, with descriptors beside its first byte.
    pub fn send<T: Serialize>(&mut self, value: &T, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
        let mut line = serde_json::to_vec(value)?;
        line.push(b'\n');
        if line.len() > LINE_MAX || fds.len() > FDS_MAX {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "message too long",
            ));
        }
        let mut rest: &[u8] = &line;
        let mut fds = fds;
        while !rest.is_empty() {
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FDS_MAX))];
            let mut control = SendAncillaryBuffer::new(&mut space);
            if !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(fds)) {
                return Err(io::Error::other("no room for file descriptors"));
            }
            match sendmsg(
                &self.stream,
                &[IoSlice::new(rest)],
                &mut control,
                SendFlags::NOSIGNAL,
            ) {
                Ok(n) => {
                    rest = rest.get(n..).unwrap_or(&[]);
                    fds = &[];
                }
                Err(rustix::io::Errno::INTR) => {}
                Err(e) => return Err(e.into()),
            }
        }
        Ok(())
    }

    /// The next line. `None`: the other end has closed, between two lines.
    pub fn receive<T: DeserializeOwned>(&mut self) -> io::Result<Option<T>> {
        loop {
            if let Some(end) = self
                .buf
                .get(self.seen..)
                .and_then(|b| b.iter().position(|&b| b == b'\n'))
            {
                let end = self.seen + end;
                let line: Vec<u8> = self.buf.drain(..=end).collect();
                self.seen = 0;
                let value = serde_json::from_slice(&line).map_err(|e| {
                    io::Error::new(io::ErrorKind::InvalidData, format!("not understood: {e}"))
                })?;
                return Ok(Some(value));
            }
            self.seen = self.buf.len();
            if self.buf.len() >= LINE_MAX {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    format!("a line of more than {LINE_MAX} bytes"),
                ));
            }
            if self.fill()? == 0 {
                if self.buf.is_empty() {
                    return Ok(None);
                }
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }

    /// Descriptors that came with the lines so far.
    pub fn take_fds(&mut self) -> Vec<OwnedFd> {
        std::mem::take(&mut self.fds)
    }

    fn fill(&mut self) -> io::Result<usize> {
        let mut bytes = [0u8; 16 << 10];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FDS_MAX))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let received = loop {
            let mut iov = [IoSliceMut::new(&mut bytes)];
            match recvmsg(
                &self.stream,
                &mut iov,
                &mut control,
                RecvFlags::CMSG_CLOEXEC,
            ) {
                Err(rustix::io::Errno::INTR) => {}
                // A peer that dies with our words unread resets the stream: gone all the same.
                Err(rustix::io::Errno::CONNRESET) => return Ok(0),
                r => break r?,
            }
        };
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(fds) = message {
                self.fds.extend(fds);
            }
        }
        if self.fds.len() > FDS_MAX {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "too many file descriptors",
            ));
        }
        self.buf
            .extend_from_slice(bytes.get(..received.bytes).unwrap_or(&[]));
        Ok(received.bytes)
    }
}

/// Whether the other end has closed: looks without taking or waiting.
pub fn gone(stream: &UnixStream) -> bool {
    use rustix::event::{PollFd, PollFlags, poll};
    let fd = stream.as_fd();
    let mut fds = [PollFd::from_borrowed_fd(fd, PollFlags::RDHUP)];
    let now = rustix::event::Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    match poll(&mut fds, Some(&now)) {
        Ok(0) => false,
        Ok(_) => fds.iter().any(|f| {
            f.revents()
                .intersects(PollFlags::RDHUP | PollFlags::HUP | PollFlags::ERR)
        }),
        Err(_) => false,
    }
}
