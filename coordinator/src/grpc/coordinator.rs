//! What both services share.

use std::sync::Arc;

use tokio::sync::watch;

use crate::store::Store;

/// What this process calls itself in handshakes.
pub(super) const SOFTWARE: &str = "sortie coordinator";

/// What both services share.
#[derive(Debug)]
pub(crate) struct Coordinator {
    pub(crate) store: Arc<Store>,
    /// Where workers put what trials leave; none if nothing is kept there.
    pub(crate) artifacts: Option<Offer>,
    /// True once the server is asked to stop: waiting requests then end at once.
    pub(crate) stopping: watch::Receiver<bool>,
}

/// The artifact store as workers learn of it.
#[derive(Clone, Debug)]
pub(crate) struct Offer {
    pub(crate) url: String,
    pub(crate) mark: String,
}
