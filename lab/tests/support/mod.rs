//! Where the programs are, and which databases there are to run them on.

use std::path::{Path, PathBuf};

use sortie_lab::place::Kind;
use sortie_testkit::postgres::Postgres;

/// The folder of the programs; none, with a line that says so, where one is missing.
pub fn programs() -> Option<PathBuf> {
    let folder = Path::new(env!("CARGO_BIN_EXE_sortie-lab")).parent().unwrap();
    let missing = ["sortie", "sortie-trainer"].into_iter().find(|name| !folder.join(name).is_file());
    if let Some(name) = missing {
        println!("skipped: needs {} (`cargo build --workspace`)", folder.join(name).display());
        return None;
    }
    Some(folder.to_owned())
}

/// Whether that database can be had here; a line says so if not.
pub fn is_there(store: Kind) -> bool {
    let there = store == Kind::Sqlite || Postgres::is_installed();
    if !there {
        println!("skipped: needs a PostgreSQL server (apt-get install postgresql)");
    }
    there
}
