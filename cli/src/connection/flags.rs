//! The flags that every command has.

use std::path::PathBuf;

use sortie_access::{AccessError, AccessFile, Place, Target};
use sortie_core::access::Role;
use sortie_core::secret::holds_token;

use crate::folders;
use crate::hidden::Hidden;

/// Where a coordinator that proves nothing is looked for.
const INSECURE_COORDINATOR: &str = "http://127.0.0.1:7070";

/// Where the coordinator is, and what it must prove.
#[derive(Debug, Default, clap::Args)]
pub struct Connection {
    /// Where the coordinator is, such as https://HOST:7070 [default: what the access file says]
    #[arg(long, global = true, env = "SORTIE_COORDINATOR", value_name = "URL")]
    pub coordinator: Option<Hidden>,
    /// The access file of a coordinator, or its content in one line: where it is, what proves it, and a token (`sortie access show`) [default:
    /// sortie/access/ROLE.toml in the XDG state folder, which `sortie serve` writes].
    #[arg(long, global = true, env = "SORTIE_ACCESS", value_name = "FILE")]
    pub access: Option<Hidden>,
    /// Connections that are neither encrypted nor authenticated, on both sides: for a network that you trust.
    #[arg(long, global = true, env = "SORTIE_INSECURE")]
    pub insecure: bool,
    /// Decided already.
    #[arg(skip)]
    target: Option<Target>,
}

impl Connection {
    /// The connection to a coordinator that this process knows.
    pub fn to(target: Target) -> Self {
        Self { target: Some(target), ..Self::default() }
    }

    /// The same at a URL, which a user did not write.
    pub fn at(&self, url: String) -> Self {
        let Self { access, insecure, .. } = self;
        Self {
            coordinator: Some(Hidden::new(url)),
            access: access.clone(),
            insecure: *insecure,
            target: None,
        }
    }

    /// The coordinator, and what it must prove before it gets the token of a role.
    ///
    /// # Errors
    /// [`AccessError`], which shows no password.
    pub fn target(&self, role: Role) -> Result<Target, AccessError> {
        if let Some(target) = &self.target {
            return Ok(target.clone());
        }
        match self.place()? {
            Some(place) if place.is_encrypted && self.insecure => {
                Err(AccessError::InsecureTls(place.to_string()))
            }
            Some(place) if place.is_encrypted => Ok(self.file(role)?.target()?.at(place.address)),
            Some(place) if !self.insecure => Err(AccessError::Plain(place.to_string())),
            Some(place) => Ok(Target::insecure(place.address)),
            None if self.insecure => Ok(Target::insecure(INSECURE_COORDINATOR.parse::<Place>()?.address)),
            None => self.file(role)?.target(),
        }
    }

    /// The access file by which a role's token and a coordinator's addresses are known.
    ///
    /// # Errors
    /// [`AccessError`]; there is none for a coordinator that is `--insecure`.
    pub fn access_file(&self, role: Role) -> Result<AccessFile, AccessError> {
        if self.insecure {
            return Err(AccessError::NoFile);
        }
        let Found { file, .. } = self.file(role)?;
        Ok(match self.place()? {
            Some(place) => AccessFile { addresses: vec![place.address], ..file },
            None => file,
        })
    }

    fn place(&self) -> Result<Option<Place>, AccessError> {
        self.coordinator.as_ref().map(|url| url.reveal().parse::<Place>()).transpose()
    }

    /// The access file.
    fn file(&self, role: Role) -> Result<Found, AccessError> {
        if let Some(access) = &self.access {
            // Some tools keep the quotes of a file of variables.
            let given = access.reveal().trim().trim_matches(['"', '\'']);
            return if AccessFile::is_line(given) {
                let file = AccessFile::parse(given, "the access line (--access or SORTIE_ACCESS)")?;
                Ok(Found { file, path: None })
            } else if given.contains('\n') || holds_token(given) {
                Err(AccessError::NoPath)
            } else {
                Found::read(PathBuf::from(given))
            };
        }
        let state = folders::access();
        match Found::read(state.access(role)) {
            // Who may only look has the file of readers.
            Err(missing @ AccessError::Missing(_)) if role == Role::Operator => {
                Found::read(state.access(Role::Reader)).or(Err(missing))
            }
            read => read,
        }
    }
}

/// An access file, and where it lies, if it is a file.
struct Found {
    file: AccessFile,
    path: Option<PathBuf>,
}

impl Found {
    fn read(path: PathBuf) -> Result<Self, AccessError> {
        Ok(Self { file: AccessFile::read(&path)?, path: Some(path) })
    }

    fn target(self) -> Result<Target, AccessError> {
        let target = Target::new(&self.file)?;
        Ok(match self.path {
            Some(path) => target.read_from(path, self.file),
            None => target,
        })
    }
}
