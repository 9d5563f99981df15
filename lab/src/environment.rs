//! A folder and a database for one measurement.

use std::path::Path;

use anyhow::{Context, Result};
use sortie_testkit::postgres::Postgres;

/// The kind of database.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Store {
    /// A SQLite file.
    Sqlite,
    /// A PostgreSQL server that this program starts.
    Postgres,
}

impl Store {
    /// The name as it is given on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sqlite => "sqlite",
            Self::Postgres => "postgres",
        }
    }
}

/// A temporary folder, and a server where the store needs one.
#[derive(Debug)]
pub struct Environment {
    /// Declared first, so that the server ends before its folder is deleted.
    postgres: Option<Postgres>,
    folder: tempfile::TempDir,
}

impl Environment {
    /// Makes the folder, and starts a server for Postgres.
    ///
    /// # Errors
    /// When the folder cannot be made, or the server does not start.
    pub fn make(store: Store) -> Result<Self> {
        let folder =
            tempfile::Builder::new().prefix("sortie-lab-").tempdir().context("cannot make a folder")?;
        let postgres = if store == Store::Postgres { Some(Postgres::start()?) } else { None };
        Ok(Self { postgres, folder })
    }

    /// The URL of a new database.
    ///
    /// # Errors
    /// When the server does not create it.
    pub fn database(&self, name: &str) -> Result<String> {
        match &self.postgres {
            Some(server) => {
                server.create_database(name)?;
                Ok(server.url(name))
            }
            None => Ok(format!("sqlite://{}", self.folder.path().join(format!("{name}.db")).display())),
        }
    }

    /// The folder for logs and other files.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Keeps the folder when this is dropped.
    pub fn keep(&mut self) {
        self.folder.disable_cleanup(true);
    }

    /// The database server, for Postgres.
    pub fn server(&mut self) -> Option<&mut Postgres> {
        self.postgres.as_mut()
    }

    /// The folder on whose disk the databases are.
    pub fn disk(&self) -> &Path {
        self.postgres.as_ref().map_or(self.folder.path(), Postgres::folder)
    }
}
