//! Calls that are refused: counted by who makes them, and said once a minute.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};

use sortie_core::access::Caller;
use tokio::time::Instant;

use super::limits::LOG_INTERVAL;

/// Callers that are remembered. Further ones share a place, so that nobody fills the memory by calling from many addresses.
const CALLERS_MAX: usize = 1_000;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Refusals(Mutex<HashMap<String, Told>>);

#[derive(Debug)]
struct Told {
    at: Instant,
    /// Refused since then.
    more: u64,
}

impl Refusals {
    /// A call of somebody's is refused.
    pub(super) fn note(&self, peer: IpAddr, caller: &Caller, reason: &str) {
        if let Some(earlier) = self.count(who(peer, caller)) {
            let caller = who(peer, caller);
            tracing::warn!(%caller, reason, earlier, "a call is refused; further ones of this minute are only counted");
        }
    }

    /// Counts a refusal. Gives how many were not said before, if it is time to say something.
    fn count(&self, who: String) -> Option<u64> {
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let is_over = |told: &Told| now >= told.at + LOG_INTERVAL;
        let who = if told.contains_key(&who) || told.len() < CALLERS_MAX {
            who
        } else {
            told.retain(|_, told| !is_over(told));
            if told.len() < CALLERS_MAX { who } else { String::new() }
        };
        match told.get_mut(&who) {
            Some(told) if !is_over(told) => {
                told.more += 1;
                None
            }
            Some(told) => {
                told.at = now;
                Some(std::mem::take(&mut told.more))
            }
            None => {
                told.insert(who, Told { at: now, more: 0 });
                Some(0)
            }
        }
    }
}

fn who(peer: IpAddr, caller: &Caller) -> String {
    match caller {
        Caller::Anybody => peer.to_string(),
        Caller::Holder { name, role } => format!("{role} {name} at {peer}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn each_caller_is_said_once_a_minute_with_what_was_not_said() {
        let refusals = Refusals::default();
        assert_eq!(refusals.count("a".to_owned()), Some(0));
        for _ in 0..3 {
            assert_eq!(refusals.count("a".to_owned()), None);
        }
        assert_eq!(refusals.count("b".to_owned()), Some(0));
        tokio::time::advance(LOG_INTERVAL).await;
        assert_eq!(refusals.count("a".to_owned()), Some(3));
        assert_eq!(refusals.count("a".to_owned()), None);
        for index in 0..10 * CALLERS_MAX {
            let said = refusals.count(format!("c{index}"));
            assert_eq!(said.is_some(), index < CALLERS_MAX, "{index}");
        }
        assert!(refusals.0.lock().unwrap().len() <= CALLERS_MAX + 1);
    }
}
