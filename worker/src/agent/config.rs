//! What an agent needs to know, and why it may stop by itself.

use std::path::PathBuf;

use tonic::transport::Endpoint;
use tonic::transport::Uri;

use super::slots::Slot;

/// What an agent needs to know.
#[derive(Clone, Debug)]
pub struct AgentConfig {
    /// The coordinator, as [`coordinator_url`] checked it.
    pub coordinator: Endpoint,
    /// The folder that holds the datasets' folders.
    pub data: PathBuf,
    /// The folder of weights, libtorch's CUDA set and logs of attempts.
    pub cache: PathBuf,
    /// One trial runs in each slot at a time; at least one.
    pub slots: Vec<Slot>,
    /// CPU threads of each trial.
    pub threads: usize,
    /// Bytes of decoded images that each trial keeps in memory.
    pub image_budget_bytes: u64,
    /// Only trials of this sweep; of any if none.
    pub sweep: Option<String>,
    /// End when no trial is left that this worker could ever get.
    pub exit_when_idle: bool,
    /// The program whose `trial` subcommand runs one trial.
    pub trial_program: PathBuf,
}

/// Why an agent did not start, or stopped by itself. One line each.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// The coordinator's address is no address.
    #[error("--coordinator {url}: {reason}; it looks like http://127.0.0.1:7070")]
    Url {
        /// As the user wrote it.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The coordinator is on another machine.
    #[error(
        "--coordinator {0} is not on this machine, and connections are neither encrypted nor authenticated yet: add --insecure on a network that you trust"
    )]
    Exposed(String),
    /// Devices that are not there.
    #[error("--devices {0}")]
    Devices(String),
    /// The two builds do not speak to each other.
    #[error("{0}")]
    Version(String),
    /// The coordinator sent a trial that this build does not understand.
    #[error("the coordinator sent a trial that this build cannot run: {0}; use builds of one version")]
    Incompatible(String),
    /// Nobody answered, and there was nothing else to do.
    #[error("cannot reach the coordinator at {url} for {seconds} s: {reason}")]
    Unreachable {
        /// Its address.
        url: String,
        /// For how long.
        seconds: u64,
        /// The last error.
        reason: String,
    },
    /// Asked to stop twice.
    #[error("stopped at once; trials that were running were not handed back and are free again when their leases expire")]
    Interrupted,
    /// The system refused something that an agent cannot do without.
    #[error("{0}: {1}")]
    System(&'static str, #[source] std::io::Error),
}

/// Checks the coordinator's address.
///
/// # Errors
/// [`AgentError::Url`], or [`AgentError::Exposed`] for another machine without `insecure`.
pub fn coordinator_url(url: &str, insecure: bool) -> Result<Endpoint, AgentError> {
    let bad = |reason: &str| AgentError::Url { url: url.to_owned(), reason: reason.to_owned() };
    let uri: Uri = url.parse().map_err(|error: <Uri as std::str::FromStr>::Err| bad(&error.to_string()))?;
    match uri.scheme_str() {
        Some("http") => {}
        Some("https") => return Err(bad("there is no TLS yet")),
        Some(_) => return Err(bad("the scheme must be http")),
        None => return Err(bad("the scheme is missing")),
    }
    let host = uri.host().filter(|host| !host.is_empty()).ok_or_else(|| bad("the host is missing"))?;
    if !matches!(uri.path(), "" | "/") || uri.query().is_some() {
        return Err(bad("there must be nothing after the port"));
    }
    if !is_loopback(host) && !insecure {
        return Err(AgentError::Exposed(url.to_owned()));
    }
    Ok(Endpoint::from(uri))
}

fn is_loopback(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    host.eq_ignore_ascii_case("localhost") || bare.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_machine_is_trusted_without_insecure() {
        for url in ["http://127.0.0.1:7070", "http://127.9.9.9:1/", "http://localhost:7070", "http://[::1]:7070"] {
            assert!(coordinator_url(url, false).is_ok(), "{url}");
        }
        for url in
            ["http://10.0.0.1:7070", "http://0.0.0.0:7070", "http://gpu7:7070", "http://127.0.0.1.example.org:7070", "http://[::2]:1"]
        {
            assert!(matches!(coordinator_url(url, false), Err(AgentError::Exposed(_))), "{url}");
            assert!(coordinator_url(url, true).is_ok(), "{url}");
        }
    }

    #[test]
    fn bad_addresses_are_refused_in_one_line() {
        for url in ["", "gpu7", "127.0.0.1:7070", "https://127.0.0.1:7070", "ftp://127.0.0.1", "http://", "http://127.0.0.1:7070/x", "a b"]
        {
            let error = coordinator_url(url, true).unwrap_err();
            assert!(matches!(error, AgentError::Url { .. }), "{url}: {error}");
            assert_eq!(error.to_string().lines().count(), 1, "{url}");
        }
    }
}
