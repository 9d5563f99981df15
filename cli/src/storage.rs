//! Where a coordinator of this machine stores things.

use std::path::Path;

use anyhow::Result;
use sortie_coordinator::server::Artifacts;

/// A database as users name it: a URL, or the path of a SQLite file.
///
/// # Errors
/// Never; what cannot be opened is refused when it is opened.
pub fn database_url(text: &str) -> Result<String, std::convert::Infallible> {
    Ok(if text.contains("://") || text.starts_with("sqlite:") {
        text.to_owned()
    } else {
        format!("sqlite://{text}")
    })
}

/// The artifact store of the flag `--store`.
///
/// # Errors
/// One line: the store is neither a folder nor a URL.
pub fn artifacts(store: Option<&str>, database: &str) -> Result<Artifacts> {
    if let Some(place) = store {
        return Ok(Artifacts::Chosen(sortie_artifacts::url_of(place)?));
    }
    let folder = match database.strip_prefix("sqlite:") {
        Some(path) => Path::new(path.strip_prefix("//").unwrap_or(path)).with_file_name("artifacts"),
        None => match directories::BaseDirs::new() {
            Some(folders) => folders.data_dir().join("sortie/artifacts"),
            None => return Ok(Artifacts::None),
        },
    };
    Ok(Artifacts::Default(sortie_artifacts::folder_url(&folder)?))
}
