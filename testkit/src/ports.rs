//! Ports for servers that are killed and restarted.

use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::ops::Range;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result};

/// Above the ports of most services.
const LOWEST: u16 = 15_000;
/// Linux's default, for where its setting cannot be read.
const EPHEMERAL_START: u16 = 32_768;
/// Consecutive process ids start their search this far apart.
const STRIDE: u32 = 61;

/// A loopback port on which nothing listens and that the system gives to no outgoing connection, so that it is still free when its server
/// is restarted. (Otherwise the system may give a client that keeps connecting to a dead server's port that very port, and it connects to
/// itself.) Another process may still take it first, so callers must be ready to try another one.
///
/// # Errors
/// When no port is free.
pub fn free() -> Result<u16> {
    static CALLS: AtomicU32 = AtomicU32::new(0);
    let ports =
        outside_ephemeral(&fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default());
    let is_free = |port: &u16| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok();
    let span = u32::from(ports.end.saturating_sub(ports.start));
    for _ in 0..span {
        // Only the count matters, not the order between threads.
        let step =
            std::process::id().wrapping_mul(STRIDE).wrapping_add(CALLS.fetch_add(1, Ordering::Relaxed));
        let port = u16::try_from(step % span).map(|offset| ports.start + offset).ok();
        if let Some(port) = port.filter(is_free) {
            return Ok(port);
        }
    }
    // All ports are ephemeral here, so any free one must do.
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("no loopback port is free")?;
    Ok(listener.local_addr().context("a listener has no address")?.port())
}

/// The ports below those that the system's setting, "LOWEST HIGHEST", gives to outgoing connections.
fn outside_ephemeral(setting: &str) -> Range<u16> {
    let start =
        setting.split_whitespace().next().and_then(|number| number.parse().ok()).unwrap_or(EPHEMERAL_START);
    LOWEST..start
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_of_outgoing_connections_are_left_alone() {
        assert_eq!(outside_ephemeral("20000\t60999\n"), 15_000..20_000);
        assert_eq!(outside_ephemeral(""), 15_000..32_768);
        assert!(outside_ephemeral("1024\t65535").is_empty());
    }

    #[test]
    fn a_port_is_not_given_twice() {
        let first = free().unwrap();
        let second = free().unwrap();
        assert_ne!(first, second);
        let _listener = TcpListener::bind((Ipv4Addr::LOCALHOST, first)).unwrap();
    }
}
