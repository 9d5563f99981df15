//! Opens whichever database a URL names.

use std::sync::Arc;

use super::{postgres, sqlite};
use crate::store::backend::Backend;
use crate::store::{OpenOptions, StoreError};

/// Opens the database at a URL.
///
/// # Errors
/// [`StoreError::Url`] and [`StoreError::Open`].
pub(in crate::store) async fn open(url: &str, options: &OpenOptions) -> Result<Arc<dyn Backend>, StoreError> {
    match url.split_once(':') {
        Some(("sqlite", _)) => Ok(Arc::new(sqlite::open(url, options).await?)),
        Some(("postgres" | "postgresql", _)) => Ok(Arc::new(postgres::open(url, options).await?)),
        _ => Err(StoreError::Url { url: url.to_owned() }),
    }
}
