//! One connection as the generator holds it: a non-blocking socket and what is left over of the bytes in
//! and out. The engine drives it; scenarios only see [`Sessions::send`].

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use mio::net::TcpStream;
use mio::{Interest, Registry, Token};
use socket2::{Domain, Socket, Type};
use tidings_protocol::{ClientFrame, Encoding, cbor};

use crate::engine::Opening;
use crate::websocket::{self, Opcode};

/// Connections from one loopback address; the next ones come from the next address, because the ports of
/// one address towards one server are limited.
const SESSIONS_PER_SOURCE: usize = 20_000;

/// A write buffer that grew beyond this is given back.
const KEPT_BUFFER_BYTES_MAX: usize = 16 * 1024;

/// How far the opening of a session has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Not begun.
    Waiting,
    /// The answer to the HTTP request is awaited.
    Upgrading,
    /// `welcome` is awaited.
    Greeting,
    /// Open.
    Open,
    /// Over.
    Closed,
}

/// All sessions of one thread.
#[derive(Debug)]
pub struct Sessions {
    all: Vec<Session>,
    dirty: Vec<usize>,
    encoding: Encoding,
    scratch: Vec<u8>,
    mask: u32,
    /// What went over the wire.
    pub traffic: Traffic,
}

/// What went over the wire, as bytes of TCP payload.
#[derive(Clone, Copy, Debug, Default)]
pub struct Traffic {
    /// Bytes to the server.
    pub up_bytes: u64,
    /// Bytes from the server.
    pub down_bytes: u64,
    /// Frames to the server.
    pub up_frames: u64,
    /// Frames from the server.
    pub down_frames: u64,
    /// Reads that brought something: frames that came together count once.
    pub reads: u64,
}

/// One connection.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) token: String,
    pub(crate) stage: Stage,
    pub(crate) rest: Vec<u8>,
    stream: Option<TcpStream>,
    output: Vec<u8>,
    written: usize,
    is_dirty: bool,
}

/// What a read brought.
pub(crate) enum Input {
    /// So many bytes; there may be more.
    More(usize),
    /// So many bytes, and nothing after them for now.
    Last(usize),
    /// Nothing for now.
    Nothing,
    /// The end.
    End,
}

impl Sessions {
    pub(crate) fn new(tokens: impl IntoIterator<Item = String>, encoding: Encoding) -> Sessions {
        let all = tokens.into_iter().map(|token| Session {
            token,
            stage: Stage::Waiting,
            rest: Vec::new(),
            stream: None,
            output: Vec::new(),
            written: 0,
            is_dirty: false,
        });
        Sessions {
            all: all.collect(),
            dirty: Vec::new(),
            encoding,
            scratch: Vec::new(),
            mask: 0x9e37_79b9,
            traffic: Traffic::default(),
        }
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.all.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// How frames are written.
    #[must_use]
    pub fn encoding(&self) -> Encoding {
        self.encoding
    }

    /// Queues a frame; it is written together with whatever else the session has to say in this moment.
    pub fn send(&mut self, index: usize, frame: &ClientFrame) {
        self.scratch.clear();
        let opcode = match self.encoding {
            Encoding::Cbor => {
                // Frames are plain data: neither encoding can fail.
                let _ = cbor::extend(&mut self.scratch, frame);
                Opcode::Binary
            }
            Encoding::Json => {
                let _ = serde_json::to_writer(&mut self.scratch, frame);
                Opcode::Text
            }
        };
        let payload = std::mem::take(&mut self.scratch);
        self.put(index, opcode, &payload);
        self.scratch = payload;
    }

    pub(crate) fn put(&mut self, index: usize, opcode: Opcode, payload: &[u8]) {
        // xorshift32: the mask protects proxies from web pages, of which there are none here.
        self.mask ^= self.mask << 13;
        self.mask ^= self.mask >> 17;
        self.mask ^= self.mask << 5;
        let mask = self.mask.to_ne_bytes();
        if let Some(session) = self.all.get_mut(index) {
            websocket::put(&mut session.output, opcode, payload, mask);
            self.traffic.up_frames += 1;
            self.mark_dirty(index);
        }
    }

    pub(crate) fn put_raw(&mut self, index: usize, bytes: &[u8]) {
        if let Some(session) = self.all.get_mut(index) {
            session.output.extend_from_slice(bytes);
            self.mark_dirty(index);
        }
    }

    fn mark_dirty(&mut self, index: usize) {
        if let Some(session) = self.all.get_mut(index)
            && !session.is_dirty
        {
            session.is_dirty = true;
            self.dirty.push(index);
        }
    }

    pub(crate) fn get(&mut self, index: usize) -> Option<&mut Session> {
        self.all.get_mut(index)
    }

    /// Writes what was queued. Returns the sessions that could not be written to.
    pub(crate) fn flush(&mut self) -> Vec<(usize, io::Error)> {
        let mut failed = Vec::new();
        for index in std::mem::take(&mut self.dirty) {
            if let Some(session) = self.all.get_mut(index) {
                session.is_dirty = false;
            }
            if let Err(error) = self.write(index) {
                failed.push((index, error));
            }
        }
        failed
    }

    /// Writes what waits on one session.
    pub(crate) fn write(&mut self, index: usize) -> io::Result<()> {
        match self.all.get_mut(index) {
            Some(session) => {
                self.traffic.up_bytes += session.write()?;
                Ok(())
            }
            None => Ok(()),
        }
    }
}

impl Session {
    /// Begins to connect.
    pub(crate) fn connect(
        &mut self,
        index: usize,
        opening: &Opening,
        registry: &Registry,
    ) -> io::Result<()> {
        let address = opening.address(index);
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
        socket.set_nonblocking(true)?;
        socket.set_tcp_nodelay(true)?;
        if let Some(source) = source_address(opening.others + index, address) {
            socket.bind(&source.into())?;
        }
        // Being under way is no error here; a refusal is found at the first write.
        if let Err(error) = socket.connect(&address.into())
            && error.kind() != io::ErrorKind::WouldBlock
            && error.raw_os_error() != Some(rustix::io::Errno::INPROGRESS.raw_os_error())
        {
            return Err(error);
        }
        let mut stream = TcpStream::from_std(socket.into());
        registry.register(
            &mut stream,
            Token(index),
            Interest::READABLE | Interest::WRITABLE,
        )?;
        self.stream = Some(stream);
        self.stage = Stage::Upgrading;
        Ok(())
    }

    pub(crate) fn is_writing(&self) -> bool {
        self.written < self.output.len()
    }

    fn write(&mut self) -> io::Result<u64> {
        let Some(stream) = &mut self.stream else {
            self.output.clear();
            return Ok(0);
        };
        let before = self.written;
        while let Some(rest) = self
            .output
            .get(self.written..)
            .filter(|rest| !rest.is_empty())
        {
            match stream.write(rest) {
                Ok(count) => self.written += count,
                Err(error) => match error.kind() {
                    io::ErrorKind::WouldBlock | io::ErrorKind::NotConnected => {
                        return Ok((self.written - before) as u64);
                    }
                    io::ErrorKind::Interrupted => {}
                    _ => return Err(error),
                },
            }
        }
        let count = self.written - before;
        self.written = 0;
        if self.output.capacity() > KEPT_BUFFER_BYTES_MAX {
            self.output = Vec::new();
        } else {
            self.output.clear();
        }
        Ok(count as u64)
    }

    pub(crate) fn read(&mut self, buffer: &mut [u8]) -> io::Result<Input> {
        let Some(stream) = &mut self.stream else {
            return Ok(Input::Nothing);
        };
        loop {
            return match stream.read(buffer) {
                Ok(0) => Ok(Input::End),
                // epoll(7): a short read has emptied a stream.
                Ok(count) if count < buffer.len() => Ok(Input::Last(count)),
                Ok(count) => Ok(Input::More(count)),
                Err(error) => match error.kind() {
                    io::ErrorKind::WouldBlock | io::ErrorKind::NotConnected => Ok(Input::Nothing),
                    io::ErrorKind::Interrupted => continue,
                    _ => Err(error),
                },
            };
        }
    }

    pub(crate) fn close(&mut self) {
        self.stage = Stage::Closed;
        self.stream = None;
        self.output = Vec::new();
        self.written = 0;
        self.rest = Vec::new();
    }
}

/// Where the connections beyond the first thousands come from, if the server is on this machine.
fn source_address(index: usize, server: SocketAddr) -> Option<SocketAddr> {
    let block = u8::try_from(index / SESSIONS_PER_SOURCE).unwrap_or(u8::MAX);
    let IpAddr::V4(address) = server.ip() else {
        return None;
    };
    (block > 0 && address.is_loopback())
        .then(|| SocketAddr::from((Ipv4Addr::new(127, 0, 1, block), 0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_of_one_address_do_not_run_out() {
        let server = SocketAddr::from(([127, 0, 0, 1], 80));
        assert_eq!(source_address(19_999, server), None);
        assert_eq!(
            source_address(20_000, server),
            Some(SocketAddr::from(([127, 0, 1, 1], 0)))
        );
        assert_eq!(
            source_address(60_000, SocketAddr::from(([10, 0, 0, 1], 80))),
            None
        );
    }
}
