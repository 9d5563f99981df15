//! The limits of the listener, each with its reason.

use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Connections in total. A worker and a command hold one each: this is far more than any cluster has, and 8,192 idle ones cost less than
/// 200 MiB.
const CONNECTIONS_MAX: usize = 8_192;
/// Connections of one other machine: a node's workers and commands, or a whole cluster's behind one gateway. One machine alone cannot take
/// all connections. Loopback has no such limit, for a tunnel or a proxy brings everybody's connections from there.
const CONNECTIONS_PER_ADDRESS_MAX: usize = 1_024;
/// Open files that are not connections: the database's, backups, and the runtime's own.
const OTHER_FILES: usize = 256;
/// Fewer connections than this are never allowed, however few files this process may open.
const CONNECTIONS_MIN: usize = 16;
/// From a connection's start to its first whole request head. Our clients send theirs at once; ten seconds are enough for a slow network,
/// and short enough that silent connections do not pile up.
const FIRST_REQUEST: Duration = Duration::from_secs(10);
/// From the first wait for a request's body to its end. Our clients give up after ten seconds.
const REQUEST_BODY: Duration = Duration::from_secs(30);
/// Bytes of request bodies that have begun and not ended, all connections together: four of the largest messages.
const BODY_BYTES_MAX: usize = 4 * sortie_proto::MESSAGE_BYTES_MAX;
/// The part of each body that counts against no limit, so that heartbeats pass while others fill the rest.
pub(super) const BODY_BYTES_FREE: usize = 16 << 10;
/// Requests that one connection runs at the same time. A worker has a long poll, its heartbeats, and a report for each slot.
pub(super) const STREAMS_MAX: u32 = 256;
/// Bytes that a request's body, and all bodies of a connection, may send before they are read: what waits for its turn is held here, for each of a
/// thousand connections of one machine. A report is far smaller, and at 10 ms to the other end a large one still passes at 12 MB/s.
pub(super) const STREAM_WINDOW: u32 = 128 << 10;
pub(super) const CONNECTION_WINDOW: u32 = 128 << 10;
/// Bytes of a request's head: ours have a path, a token and a few short headers.
pub(super) const HEAD_BYTES_MAX: u32 = 16 << 10;
/// Handshakes of one other machine, in the long run: one costs about a millisecond of one core, so that a flood takes a fifth of it. Further ones
/// wait. Loopback has no such limit, as with connections.
pub(super) const HANDSHAKE_INTERVAL: Duration = Duration::from_millis(5);
/// Handshakes of one other machine that need not wait: a node's workers and commands that start together.
pub(super) const HANDSHAKES_AT_ONCE: u32 = 128;
/// The longest that a handshake waits for its turn: half of what a connection may take to its first request.
pub(super) const HANDSHAKE_WAIT_MAX: Duration = Duration::from_secs(5);
/// Machines whose pace is remembered, before those are forgotten that keep it.
pub(super) const PACES_MAX: usize = 10_000;
/// Requests without a valid token that one connection makes before it has to go: a program of ours ends at the first.
pub(super) const REFUSED_MAX: u32 = 32;
/// Connections whose other end vanished are noticed after about this long.
pub(super) const KEEPALIVE: Duration = Duration::from_secs(10);
/// The pause after the system refused a connection, for want of open files or memory, instead of asking again at once.
pub(super) const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How often the log says that connections are refused.
pub(super) const LOG_INTERVAL: Duration = Duration::from_secs(60);

/// The limits that tests make smaller.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Connections in total.
    pub(crate) connections: usize,
    /// Connections of one address that is not loopback.
    pub(crate) connections_per_address: usize,
    /// From a connection's start to its first request.
    pub(crate) first_request: Duration,
    /// From the first wait for a request's body to its end.
    pub(crate) request_body: Duration,
    /// Bytes of unfinished request bodies.
    pub(crate) body_bytes: usize,
}

impl Limits {
    /// Raises the number of files that this process may open as far as it needs and may, and gives the limits that fit it.
    pub(crate) fn of_this_process() -> Self {
        let files = raise_open_files(CONNECTIONS_MAX + OTHER_FILES);
        let connections = files.saturating_sub(OTHER_FILES).clamp(CONNECTIONS_MIN, CONNECTIONS_MAX);
        if connections < CONNECTIONS_MAX {
            tracing::warn!(
                connections,
                files,
                "this process may open few files (ulimit -n): it serves few connections"
            );
        }
        Self {
            connections,
            connections_per_address: CONNECTIONS_PER_ADDRESS_MAX,
            first_request: FIRST_REQUEST,
            request_body: REQUEST_BODY,
            body_bytes: BODY_BYTES_MAX,
        }
    }
}

/// Raises the soft limit of open files to `wanted`, or as near as the hard limit allows. Gives how many may be open.
fn raise_open_files(wanted: usize) -> usize {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let count =
        |limit: Option<u64>| limit.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX));
    let (now, most) = (count(current), count(maximum));
    let raised = wanted.min(most);
    if now >= raised {
        return now;
    }
    match setrlimit(Resource::Nofile, Rlimit { current: u64::try_from(raised).ok(), maximum }) {
        Ok(()) => raised,
        Err(error) => {
            tracing::debug!(%error, "cannot raise the number of open files");
            now
        }
    }
}
