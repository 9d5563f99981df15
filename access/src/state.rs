//! Where identity and access files lie: a folder of the user's, in which every program of that user looks.

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};

use sortie_core::access::Role;

use crate::{AccessError, AccessFile, Address, Identity, Token, private};

/// The folder `sortie` in the user's state folder.
#[derive(Clone, Debug)]
pub struct State(PathBuf);

/// What a coordinator made known of its addresses.
#[derive(Debug)]
pub enum Published {
    /// The access files name it for as long as this is held.
    Here(File),
    /// The files name another coordinator of this user, which is running or was the last one that claimed them.
    Another,
    /// This file is another identity's: it was imported, and stays as it is. The others name this coordinator for as long as the second is held.
    Foreign(PathBuf, Option<File>),
}

impl State {
    /// The folder of this path, which need not be there yet.
    pub fn new(folder: PathBuf) -> Self {
        Self(folder)
    }

    /// The access file of a role.
    pub fn access(&self, role: Role) -> PathBuf {
        self.0.join("access").join(format!("{role}.toml"))
    }

    /// The file of the identity.
    pub fn identity_file(&self) -> PathBuf {
        self.0.join("identity.toml")
    }

    /// The identity of this user's coordinators; none if there was none yet.
    ///
    /// # Errors
    /// [`AccessError`].
    pub fn identity(&self) -> Result<Option<Identity>, AccessError> {
        let path = self.identity_file();
        let text = private::read(&path)?;
        text.map(|text| Identity::parse(&text, &path.display().to_string())).transpose()
    }

    /// The same; it is made if there is none yet.
    ///
    /// # Errors
    /// [`AccessError`].
    pub fn identity_or_new(&self) -> Result<Identity, AccessError> {
        if let Some(identity) = self.identity()? {
            return Ok(identity);
        }
        let _lock = self.lock()?;
        // Another program may have made it meanwhile.
        if let Some(identity) = self.identity()? {
            return Ok(identity);
        }
        let identity = Identity::new()?;
        private::write(&self.identity_file(), &identity.text())?;
        Ok(identity)
    }

    /// Stores an identity that came from another machine.
    ///
    /// # Errors
    /// [`AccessError`]; there is another one already.
    pub fn import_identity(&self, identity: &Identity) -> Result<(), AccessError> {
        let _lock = self.lock()?;
        let path = self.identity_file();
        if self.identity()?.is_some_and(|ours| ours.text() != identity.text()) {
            let error =
                std::io::Error::other("this user has another identity there already; move it away first");
            return Err(AccessError::File { verb: "write", path, error });
        }
        private::write(&path, &identity.text())
    }

    /// Stores an access file where programs look.
    ///
    /// # Errors
    /// [`AccessError`].
    pub fn import_access(&self, file: &AccessFile) -> Result<PathBuf, AccessError> {
        let _lock = self.lock()?;
        let path = self.access(file.role);
        private::write(&path, &file.text())?;
        Ok(path)
    }

    /// Stores a new token for a role in the identity that has this CA, and in its access file. Gives the one that was there; none if there is no
    /// such identity here.
    ///
    /// # Errors
    /// [`AccessError`].
    pub fn replace_token(&self, ca: &str, role: Role, token: &Token) -> Result<Option<Token>, AccessError> {
        let _lock = self.lock()?;
        let Some(identity) = self.identity()?.filter(|identity| identity.ca.trim() == ca.trim()) else {
            return Ok(None);
        };
        let old = identity.access(role, Vec::new()).token;
        let identity = identity.with_token(role, token.clone());
        private::write(&self.identity_file(), &identity.text())?;
        let path = self.access(role);
        // One that cannot be read, or was imported from elsewhere, is not ours to replace.
        if let Ok(file) = AccessFile::read(&path)
            && identity.made(&file)
        {
            private::write(&path, &AccessFile { token: token.clone(), ..file }.text())?;
        }
        Ok(Some(old))
    }

    /// Writes the addresses of a coordinator into the access files, if it claims them. Files that name a coordinator which runs stay as they
    /// are, and so do those of other identities; files that are missing are written in any case.
    ///
    /// # Errors
    /// [`AccessError`].
    pub fn publish(
        &self,
        identity: &Identity,
        addresses: &[Address],
        claims: bool,
    ) -> Result<Published, AccessError> {
        let _lock = self.lock()?;
        let path = self.0.join("access/serving.lock");
        let failed = |error| AccessError::File { verb: "lock", path: path.clone(), error };
        let serving = open_lock(&path)?;
        let is_first = match serving.try_lock() {
            Ok(()) => claims,
            Err(TryLockError::WouldBlock) => false,
            Err(TryLockError::Error(error)) => return Err(failed(error)),
        };
        // One that cannot be read is not ours to replace either.
        let is_ours = |role: Role| match AccessFile::read(&self.access(role)) {
            Ok(file) => Some(identity.made(&file)),
            Err(AccessError::Missing(_)) => None,
            Err(_) => Some(false),
        };
        let found: Vec<(Role, Option<bool>)> = Role::ALL.iter().map(|&role| (role, is_ours(role))).collect();
        let foreign =
            found.iter().find(|(_, is_ours)| *is_ours == Some(false)).map(|(role, _)| self.access(*role));
        if foreign.is_some() && !claims {
            // A file beside one that was imported would be looked at first.
            return Ok(Published::Another);
        }
        for (role, is_ours) in found {
            match is_ours {
                Some(false) => {}
                Some(true) if !is_first => {}
                _ => private::write(&self.access(role), &identity.access(role, addresses.to_vec()).text())?,
            }
        }
        Ok(match foreign {
            Some(path) => Published::Foreign(path, is_first.then_some(serving)),
            None if is_first => Published::Here(serving),
            None => Published::Another,
        })
    }

    /// One program at a time changes what is here.
    fn lock(&self) -> Result<File, AccessError> {
        private::folder(&self.0.join("access"))?;
        let path = self.0.join("identity.lock");
        let file = open_lock(&path)?;
        file.lock().map_err(|error| AccessError::File { verb: "lock", path, error })?;
        Ok(file)
    }
}

fn open_lock(path: &Path) -> Result<File, AccessError> {
    let opened = File::options().create(true).truncate(false).write(true).open(path);
    opened.map_err(|error| AccessError::File { verb: "open", path: path.to_owned(), error })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(address: &str) -> Vec<Address> {
        vec![address.parse().unwrap()]
    }

    fn named(state: &State) -> String {
        AccessFile::read(&state.access(Role::Operator)).unwrap().addresses[0].to_string()
    }

    #[test]
    fn the_identity_is_made_once_and_the_files_name_the_first_coordinator_that_runs() {
        let folder = tempfile::tempdir().unwrap();
        let state = State::new(folder.path().join("state/sortie"));
        assert!(state.identity().unwrap().is_none());
        let identity = state.identity_or_new().unwrap();
        assert_eq!(state.identity_or_new().unwrap().text(), identity.text());
        let first = state.publish(&identity, &addresses("a:1"), true).unwrap();
        assert!(matches!(first, Published::Here(_)));
        let second = state.publish(&identity, &addresses("b:2"), true).unwrap();
        assert!(matches!(second, Published::Another));
        assert_eq!(named(&state), "a:1");
        // The first one ends; the second one never named itself, and a third does.
        drop((first, second));
        let third = state.publish(&identity, &addresses("c:3"), true).unwrap();
        assert_eq!(named(&state), "c:3");
        drop(third);
    }

    #[test]
    fn a_command_for_itself_writes_nothing_beside_what_was_imported() {
        let folder = tempfile::tempdir().unwrap();
        let state = State::new(folder.path().to_owned());
        let other = Identity::new().unwrap();
        state.import_access(&other.access(Role::Reader, addresses("far:1"))).unwrap();
        let identity = state.identity_or_new().unwrap();
        let published = state.publish(&identity, &addresses("b:2"), false).unwrap();
        assert!(matches!(published, Published::Another));
        assert!(!state.access(Role::Operator).exists());
    }

    #[test]
    fn a_new_token_comes_into_the_identity_and_its_own_access_file() {
        let folder = tempfile::tempdir().unwrap();
        let state = State::new(folder.path().to_owned());
        let token = Token::new().unwrap();
        let other = Identity::new().unwrap();
        assert!(state.replace_token(&other.ca, Role::Worker, &token).unwrap().is_none());
        let identity = state.identity_or_new().unwrap();
        assert!(state.replace_token(&other.ca, Role::Worker, &token).unwrap().is_none());
        drop(state.publish(&identity, &addresses("a:1"), true).unwrap());
        state.import_access(&other.access(Role::Reader, addresses("far:1"))).unwrap();
        for role in [Role::Worker, Role::Reader] {
            let old = identity.access(role, Vec::new()).token;
            assert_eq!(state.replace_token(&identity.ca, role, &token).unwrap(), Some(old));
            let stored = state.identity().unwrap().unwrap();
            assert_eq!(stored.access(role, Vec::new()).token, token);
        }
        let file = |role| AccessFile::read(&state.access(role)).unwrap();
        assert_eq!(
            (file(Role::Worker).token, file(Role::Worker).addresses),
            (token.clone(), addresses("a:1"))
        );
        assert_ne!(file(Role::Operator).token, token);
        assert_ne!(file(Role::Reader).token, token);
    }

    #[test]
    fn what_was_imported_stays() {
        let folder = tempfile::tempdir().unwrap();
        let state = State::new(folder.path().to_owned());
        let other = Identity::new().unwrap();
        let imported = other.access(Role::Operator, addresses("far:1"));
        state.import_access(&imported).unwrap();
        let identity = state.identity_or_new().unwrap();
        let published = state.publish(&identity, &addresses("b:2"), true).unwrap();
        assert!(
            matches!(&published, Published::Foreign(path, Some(_)) if *path == state.access(Role::Operator))
        );
        assert_eq!(named(&state), "far:1");
        let worker = || AccessFile::read(&state.access(Role::Worker)).unwrap().addresses;
        assert_eq!(worker(), addresses("b:2"));
        // The other files belong to the first one for as long as it runs.
        let second = state.publish(&identity, &addresses("c:3"), true).unwrap();
        assert!(matches!(second, Published::Foreign(_, None)));
        assert_eq!(worker(), addresses("b:2"));
        drop(published);
        assert_eq!(worker(), addresses("b:2"));
        assert!(state.import_identity(&other).is_err());
        assert!(state.import_identity(&identity).is_ok());
    }
}
