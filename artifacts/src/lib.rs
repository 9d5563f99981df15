//! The artifact store: a folder or a bucket that holds what trials leave besides their metrics. Its layout is the trainer's; here it is
//! opened by its URL, recognised by its mark, and cleared of what nobody needs any more.

mod allowed;
mod store;

pub use allowed::AllowedStore;
pub use store::{ArtifactError, ArtifactStore, MARK, folder_url, url_of};
