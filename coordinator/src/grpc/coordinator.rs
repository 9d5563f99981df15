//! What both services share.

use std::sync::Arc;

use sortie_core::access::Caller;
use tokio::sync::watch;
use tonic::Request;

use crate::callers::Callers;
use crate::store::Store;

/// What this process calls itself in handshakes.
pub(super) const SOFTWARE: &str = "sortie coordinator";

/// What both services share.
#[derive(Debug)]
pub(crate) struct Coordinator {
    pub(crate) store: Arc<Store>,
    /// Where workers put what trials leave; none if nothing is kept there.
    pub(crate) artifacts: Option<Offer>,
    /// Whom tokens let in.
    pub(crate) callers: Arc<Callers>,
    /// True once the server is asked to stop: waiting requests then end at once.
    pub(crate) stopping: watch::Receiver<bool>,
}

impl Coordinator {
    /// The store for whoever makes a request.
    pub(super) fn store_for<T>(&self, request: &Request<T>) -> Store {
        self.store.acting_for(request.extensions().get::<Caller>().cloned().unwrap_or_default())
    }
}

/// The artifact store as workers learn of it.
#[derive(Clone, Debug)]
pub(crate) struct Offer {
    pub(crate) url: String,
    pub(crate) mark: String,
}
