//! A network that can be cut: a TCP proxy between two processes of this machine.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::ops::Range;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::sockopt::set_socket_linger;

/// How often an idle connection checks whether it was cut.
const LOOK_INTERVAL: Timespec = Timespec { tv_sec: 0, tv_nsec: 20_000_000 };
/// The longest time that a target on this machine needs.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);
/// Before accepting again after the system refused it, for want of file descriptors say.
const ACCEPT_PAUSE: Duration = Duration::from_millis(20);
const CHUNK_BYTES: usize = 1 << 16;

/// How a network fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NetworkFault {
    /// Both ends of every connection get a reset at once, and so does whoever connects while it lasts: a machine that has no such service.
    Reset,
    /// Not a byte passes and no side gets an error: a cable that was pulled. Clients that connect while it lasts get no answer. Bytes that were
    /// sent meanwhile pass once the fault is repaired, as TCP would have resent them.
    Silence,
}

/// A proxy on a loopback port of its own. Dropping it resets all connections.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    network: Arc<Network>,
    acceptor: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Network {
    target: SocketAddr,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    fault: Option<NetworkFault>,
    /// Raised by every reset: a connection of an earlier epoch is gone.
    epoch: u64,
    closing: bool,
    connections: Vec<JoinHandle<()>>,
}

impl Proxy {
    /// Starts to forward connections to the target, which need not be there yet.
    ///
    /// # Errors
    /// When the system refuses a port or a thread.
    pub fn start(target: SocketAddr) -> Result<Self> {
        let listener =
            TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("no loopback port is free for a proxy")?;
        let address = listener.local_addr().context("a listener has no address")?;
        let network = Arc::new(Network { target, state: Mutex::default(), changed: Condvar::new() });
        let accepting = Arc::clone(&network);
        let acceptor =
            spawn("proxy", move || accepting.accept(&listener)).context("cannot start a proxy's thread")?;
        Ok(Self { address, network, acceptor: Some(acceptor) })
    }

    /// Where to connect instead of to the target.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Cuts the network. When this returns, the connections are reset, or no byte passes any more.
    pub fn cut(&self, fault: NetworkFault) {
        let mut state = self.network.lock();
        state.fault = Some(fault);
        let reset = if fault == NetworkFault::Reset { state.reset() } else { Vec::new() };
        drop(state);
        self.network.wake_and_join(reset);
    }

    /// Lets everything pass again.
    pub fn heal(&self) {
        self.network.lock().fault = None;
        self.network.changed.notify_all();
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let mut state = self.network.lock();
        state.closing = true;
        let reset = state.reset();
        drop(state);
        self.network.wake_and_join(reset);
        // A connection wakes the acceptor up; whether it succeeds does not matter.
        let _ = TcpStream::connect_timeout(&self.address, CONNECT_LIMIT);
        // A thread that panicked has printed its panic.
        let _ = self.acceptor.take().map(JoinHandle::join);
    }
}

impl State {
    /// Ends all connections; returns their threads, to be joined.
    fn reset(&mut self) -> Vec<JoinHandle<()>> {
        self.epoch += 1;
        std::mem::take(&mut self.connections)
    }
}

impl Network {
    fn lock(&self) -> MutexGuard<'_, State> {
        // The state is consistent after every statement, so a panic elsewhere does not invalidate it.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wake_and_join(&self, threads: Vec<JoinHandle<()>>) {
        self.changed.notify_all();
        for thread in threads {
            let _ = thread.join();
        }
    }

    fn accept(self: &Arc<Self>, listener: &TcpListener) {
        loop {
            let client = listener.accept();
            let mut state = self.lock();
            while state.fault == Some(NetworkFault::Silence) && !state.closing {
                state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
            if state.closing {
                return;
            }
            match client {
                Ok((client, _)) if state.fault == Some(NetworkFault::Reset) => reset_on_close(&client),
                Ok((client, _)) => {
                    let (network, epoch) = (Arc::clone(self), state.epoch);
                    state.connections.retain(|thread| !thread.is_finished());
                    // Without a thread, the client's end is dropped here and closes.
                    state.connections.extend(spawn("proxied", move || network.carry(epoch, &client)));
                }
                Err(_) => {
                    drop(state);
                    thread::sleep(ACCEPT_PAUSE);
                }
            }
        }
    }

    /// Forwards one connection to its end. An end or a reset on one side is repeated on the other.
    fn carry(&self, epoch: u64, client: &TcpStream) {
        let connected = TcpStream::connect_timeout(&self.target, CONNECT_LIMIT);
        let outcome = connected.and_then(|server| {
            let outcome = self.relay(epoch, client, &server);
            if outcome.is_err() {
                reset_on_close(&server);
            }
            outcome
        });
        if outcome.is_err() {
            reset_on_close(client);
        }
    }

    fn relay(&self, epoch: u64, client: &TcpStream, server: &TcpStream) -> io::Result<()> {
        for stream in [client, server] {
            stream.set_nonblocking(true)?;
            stream.set_nodelay(true)?;
        }
        let (mut up, mut down) = (Flow::new(client, server), Flow::new(server, client));
        loop {
            // The lock is held while bytes move, so that none does after a cut has returned. Nothing blocks meanwhile.
            let passing = self.pass(epoch)?;
            up.advance()?;
            down.advance()?;
            drop(passing);
            if up.passed_end && down.passed_end {
                return Ok(());
            }
            wait_for_more(&up, &down)?;
        }
    }

    /// Waits while the network is silent.
    ///
    /// # Errors
    /// When the connections of that epoch were reset.
    fn pass(&self, epoch: u64) -> io::Result<MutexGuard<'_, State>> {
        let mut state = self.lock();
        while state.fault == Some(NetworkFault::Silence) && state.epoch == epoch {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        if state.epoch == epoch { Ok(state) } else { Err(ErrorKind::ConnectionReset.into()) }
    }
}

/// One direction of a connection.
struct Flow<'a> {
    from: &'a TcpStream,
    to: &'a TcpStream,
    buffer: Box<[u8]>,
    /// What was read and not passed on yet.
    pending: Range<usize>,
    read_end: bool,
    passed_end: bool,
}

impl<'a> Flow<'a> {
    fn new(from: &'a TcpStream, to: &'a TcpStream) -> Self {
        let buffer = vec![0; CHUNK_BYTES].into_boxed_slice();
        Self { from, to, buffer, pending: 0..0, read_end: false, passed_end: false }
    }

    /// Moves what can be moved now.
    fn advance(&mut self) -> io::Result<()> {
        if self.pending.is_empty() && !self.read_end {
            let read = when_ready(self.from.read(&mut self.buffer))?;
            self.pending = 0..read.unwrap_or(0);
            self.read_end = read == Some(0);
        }
        if !self.pending.is_empty() {
            self.pending.start += when_ready(self.to.write(&self.buffer[self.pending.clone()]))?.unwrap_or(0);
        }
        if self.pending.is_empty() && self.read_end && !self.passed_end {
            self.to.shutdown(Shutdown::Write)?;
            self.passed_end = true;
        }
        Ok(())
    }
}

/// None where there is nothing to read, or no room to write, at the moment.
fn when_ready(outcome: io::Result<usize>) -> io::Result<Option<usize>> {
    match outcome {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Waits until one of the two can move, but no longer than until the next look at the network.
fn wait_for_more(up: &Flow, down: &Flow) -> io::Result<()> {
    let interest = |incoming: &Flow, outgoing: &Flow| {
        let mut flags = PollFlags::empty();
        flags.set(PollFlags::IN, incoming.pending.is_empty() && !incoming.read_end);
        flags.set(PollFlags::OUT, !outgoing.pending.is_empty());
        flags
    };
    let sides = [(up.from, interest(up, down)), (down.from, interest(down, up))];
    // A side that is not waited for would end the wait too, once it has hung up.
    let mut sides: Vec<_> =
        sides.iter().filter(|side| !side.1.is_empty()).map(|side| PollFd::new(side.0, side.1)).collect();
    match poll(&mut sides, Some(&LOOK_INTERVAL)) {
        Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Makes the end of this socket a reset.
fn reset_on_close(stream: &TcpStream) {
    // If this fails, the socket is closed without a reset, which the other side notices later.
    let _ = set_socket_linger(stream, Some(Duration::ZERO));
}

fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> io::Result<JoinHandle<()>> {
    thread::Builder::new().name(name.to_owned()).spawn(run)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Far longer than anything takes on a busy machine: only a hang reaches it.
    const WAIT_LIMIT: Duration = Duration::from_secs(60);
    /// How long to check that no byte arrives. Too short a time could only miss a byte.
    const LISTEN: Duration = Duration::from_millis(60);

    /// A server that sends everything back, and the end too.
    fn echo() -> SocketAddr {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let stream = stream.unwrap();
                thread::spawn(move || {
                    let _ = io::copy(&mut &stream, &mut &stream);
                    let _ = stream.shutdown(Shutdown::Write);
                });
            }
        });
        address
    }

    fn connect(proxy: &Proxy) -> TcpStream {
        let stream = TcpStream::connect(proxy.address()).unwrap();
        stream.set_read_timeout(Some(WAIT_LIMIT)).unwrap();
        stream
    }

    fn hear(stream: &mut TcpStream, expected: &[u8]) {
        let mut heard = vec![0; expected.len()];
        stream.read_exact(&mut heard).unwrap();
        assert_eq!(heard, expected);
    }

    fn hears_nothing(stream: &mut TcpStream) {
        stream.set_read_timeout(Some(LISTEN)).unwrap();
        assert_eq!(stream.read(&mut [0]).unwrap_err().kind(), ErrorKind::WouldBlock);
        stream.set_read_timeout(Some(WAIT_LIMIT)).unwrap();
    }

    fn is_reset(stream: &mut TcpStream) -> bool {
        stream.read(&mut [0]).is_err_and(|error| error.kind() == ErrorKind::ConnectionReset)
    }

    #[test]
    fn a_whole_network_carries_all_bytes_and_the_end() {
        let proxy = Proxy::start(echo()).unwrap();
        let mut stream = connect(&proxy);
        // More than all buffers on the way hold.
        let sent: Vec<u8> = (0..12_000_000_u32).map(|number| (number % 251) as u8).collect();
        let (mut writer, text) = (stream.try_clone().unwrap(), sent.clone());
        let writing = thread::spawn(move || {
            writer.write_all(&text).unwrap();
            writer.shutdown(Shutdown::Write).unwrap();
        });
        let mut heard = Vec::new();
        stream.read_to_end(&mut heard).unwrap();
        writing.join().unwrap();
        assert!(heard == sent, "{} of {} bytes came back, or others", heard.len(), sent.len());
    }

    #[test]
    fn silence_holds_everything_back_until_it_is_healed() {
        let proxy = Proxy::start(echo()).unwrap();
        let mut stream = connect(&proxy);
        stream.write_all(b"one").unwrap();
        hear(&mut stream, b"one");
        proxy.cut(NetworkFault::Silence);
        stream.write_all(b"two").unwrap();
        let mut late = connect(&proxy);
        late.write_all(b"late").unwrap();
        hears_nothing(&mut stream);
        hears_nothing(&mut late);
        proxy.heal();
        hear(&mut stream, b"two");
        hear(&mut late, b"late");
    }

    #[test]
    fn a_reset_ends_everything_until_it_is_healed() {
        let proxy = Proxy::start(echo()).unwrap();
        let mut stream = connect(&proxy);
        stream.write_all(b"one").unwrap();
        hear(&mut stream, b"one");
        proxy.cut(NetworkFault::Reset);
        assert!(is_reset(&mut stream));
        assert!(is_reset(&mut connect(&proxy)));
        proxy.heal();
        let mut stream = connect(&proxy);
        stream.write_all(b"two").unwrap();
        hear(&mut stream, b"two");
    }

    #[test]
    fn silence_can_end_in_a_reset() {
        let proxy = Proxy::start(echo()).unwrap();
        let mut stream = connect(&proxy);
        stream.write_all(b"one").unwrap();
        hear(&mut stream, b"one");
        proxy.cut(NetworkFault::Silence);
        stream.write_all(b"lost").unwrap();
        let mut late = connect(&proxy);
        proxy.cut(NetworkFault::Reset);
        assert!(is_reset(&mut stream) && is_reset(&mut late));
    }

    #[test]
    fn one_side_sees_what_the_other_side_does() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let proxy = Proxy::start(listener.local_addr().unwrap()).unwrap();
        let mut stream = connect(&proxy);
        let (server, _) = listener.accept().unwrap();
        reset_on_close(&server);
        drop(server);
        assert!(is_reset(&mut stream));
        drop(listener);
        assert!(is_reset(&mut connect(&proxy)), "nobody listens behind the proxy");
    }

    #[test]
    fn dropping_it_in_silence_ends_it() {
        let proxy = Proxy::start(echo()).unwrap();
        let mut stream = connect(&proxy);
        stream.write_all(b"one").unwrap();
        hear(&mut stream, b"one");
        proxy.cut(NetworkFault::Silence);
        let address = proxy.address();
        drop(proxy);
        assert!(is_reset(&mut stream));
        assert!(TcpStream::connect(address).is_err());
    }
}
