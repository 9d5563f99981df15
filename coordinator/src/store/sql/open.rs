//! Opens whichever database a URL names.

use std::sync::Arc;

use super::{postgres, sqlite};
use crate::store::backend::Backend;
use crate::store::database_url::{DatabaseUrl, Place};
use crate::store::{OpenOptions, StoreError};

/// Opens the database at a URL.
///
/// # Errors
/// [`StoreError::Open`].
pub(in crate::store) async fn open(
    url: &DatabaseUrl,
    options: &OpenOptions,
) -> Result<Arc<dyn Backend>, StoreError> {
    match url.place() {
        Place::File(path) => Ok(Arc::new(sqlite::open(path, options).await?)),
        Place::Server(server) => Ok(Arc::new(postgres::open(server, options).await?)),
    }
}
