//! The programs and databases that tests need.

use std::path::{Path, PathBuf};

use sortie_lab::environment::Store;
use sortie_testkit::postgres::Postgres;

/// The folder of the programs; none, with a message, if one is missing.
pub fn programs() -> Option<PathBuf> {
    let folder = Path::new(env!("CARGO_BIN_EXE_sortie-lab")).parent().unwrap();
    let missing = ["sortie", "sortie-trainer"].into_iter().find(|name| !folder.join(name).is_file());
    if let Some(name) = missing {
        println!("skipped: needs {} (`cargo build --workspace`)", folder.join(name).display());
        return None;
    }
    Some(folder.to_owned())
}

/// Whether the database is installed, with a message if not.
pub fn is_there(store: Store) -> bool {
    let there = store == Store::Sqlite || Postgres::is_installed();
    if !there {
        println!("skipped: needs a PostgreSQL server (apt-get install postgresql)");
    }
    there
}
