//! Where a coordinator of this machine stores things.

use anyhow::Result;
use sortie_coordinator::server::Artifacts;
use sortie_coordinator::store::DatabaseUrl;

use crate::hidden::Hidden;

/// The database of the flag `--db`: a URL, or the path of a SQLite file.
///
/// # Errors
/// One line, which says nothing of the text.
pub fn database(text: &Hidden) -> Result<DatabaseUrl> {
    Ok(text.reveal().parse()?)
}

/// The artifact store of the flag `--store`.
///
/// # Errors
/// One line: the store is neither a folder nor a URL.
pub fn artifacts(store: Option<&Hidden>, database: &DatabaseUrl) -> Result<Artifacts> {
    if let Some(place) = store {
        return Ok(Artifacts::Chosen(sortie_artifacts::url_of(place.reveal())?));
    }
    let folder = match database.file() {
        Some(path) => path.with_file_name("artifacts"),
        None => match directories::BaseDirs::new() {
            Some(folders) => folders.data_dir().join("sortie/artifacts"),
            None => return Ok(Artifacts::None),
        },
    };
    Ok(Artifacts::Default(sortie_artifacts::folder_url(&folder)?))
}
