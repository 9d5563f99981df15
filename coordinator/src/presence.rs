//! Where the coordinator of a SQLite file can be reached: its address stands in the lock file beside the database, so that `sortie run` can
//! join it.

use std::fs::{self, File, TryLockError};
use std::path::PathBuf;

use sortie_access::Place;

use crate::store::DatabaseUrl;

/// Writes the URL of the coordinator that holds this database. It is a hint: a folder that cannot be written has none.
pub(crate) fn announce(database: &DatabaseUrl, url: &Place) {
    if let Some(path) = lock_file(database)
        && let Err(error) = fs::write(&path, format!("{url}\n"))
    {
        tracing::debug!(file = %path.display(), %error, "cannot write the coordinator's address");
    }
}

/// Whether another process serves a database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Presence {
    /// Nobody does, as far as this machine can tell.
    Free,
    /// A process does; its address, unless it does not listen yet.
    Served(Option<String>),
}

/// Looks at the lock of a SQLite file; a database on a server is free always, since several coordinators may share it.
pub fn presence(database: &DatabaseUrl) -> Presence {
    let Some(path) = lock_file(database) else { return Presence::Free };
    let Ok(file) = File::options().read(true).write(true).open(&path) else { return Presence::Free };
    match file.try_lock() {
        Err(TryLockError::WouldBlock) => {
            let address = fs::read_to_string(&path).unwrap_or_default().trim().to_owned();
            Presence::Served(Some(address).filter(|address| !address.is_empty()))
        }
        // Given back at once, when the file is closed. What stands in it was written by a process that is gone.
        Ok(()) => {
            let _ = file.set_len(0);
            Presence::Free
        }
        Err(TryLockError::Error(_)) => Presence::Free,
    }
}

fn lock_file(database: &DatabaseUrl) -> Option<PathBuf> {
    let path = database.file()?;
    // A link is another name for the same file.
    let mut path = path.canonicalize().unwrap_or_else(|_| path.to_owned()).into_os_string();
    path.push(".lock");
    Some(path.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_there_as_long_as_the_lock_is_held() {
        let folder = tempfile::tempdir().unwrap();
        let database = format!("sqlite://{}/s.db", folder.path().display()).parse().unwrap();
        assert_eq!(presence(&database), Presence::Free);
        let lock = File::create(folder.path().join("s.db.lock")).unwrap();
        lock.lock().unwrap();
        assert_eq!(presence(&database), Presence::Served(None));
        announce(&database, &"https://127.0.0.1:4000".parse().unwrap());
        assert_eq!(presence(&database), Presence::Served(Some("https://127.0.0.1:4000".to_owned())));
        drop(lock);
        assert_eq!(presence(&database), Presence::Free);
        let lock = File::options().write(true).open(folder.path().join("s.db.lock")).unwrap();
        lock.lock().unwrap();
        assert_eq!(presence(&database), Presence::Served(None), "the address of a process that is gone");
    }
}
