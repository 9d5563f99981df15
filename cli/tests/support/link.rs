//! Connections of tests to real coordinators.

use sortie_access::{Link, State};
use sortie_core::access::Role;
use sortie_testkit::programs::state_home;

/// A connection to a coordinator, as an operator.
pub async fn link(url: &str) -> Link {
    let identity = State::new(state_home().join("sortie")).identity_or_new().unwrap();
    let address = url.trim_start_matches("https://").parse().unwrap();
    identity.target(Role::Operator, address).unwrap().connect().await.unwrap()
}
