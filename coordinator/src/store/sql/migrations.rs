//! The files of `migrations/`, as they are compiled into the program. sqlx's macro would do the same, but compile both drivers once more for
//! the machine that builds.

use sqlx::migrate::{Migration, MigrationType, Migrator};
use sqlx::{AssertSqlSafe, SqlSafeStr as _};

/// A file of `migrations/`: its number, what it is about, its statements. A file's name says the first two.
pub(super) type File = (i64, &'static str, &'static str);

macro_rules! files {
    ($folder:literal) => {
        [
            (1, "sweeps", include_str!(concat!("../../../../migrations/", $folder, "/0001_sweeps.sql"))),
            (2, "views", include_str!(concat!("../../../../migrations/", $folder, "/0002_views.sql"))),
        ]
    };
}

/// Those of SQLite.
pub(super) const SQLITE: [File; 2] = files!("sqlite");
/// Those of PostgreSQL.
pub(super) const POSTGRES: [File; 2] = files!("postgres");

/// What brings a database up to date.
pub(super) fn migrator(files: &'static [File]) -> Migrator {
    let migration = |(version, about, statements): &'static File| {
        let statements = AssertSqlSafe(*statements).into_sql_str();
        Migration::new(*version, (*about).into(), MigrationType::Simple, statements, false)
    };
    Migrator::with_migrations(files.iter().map(migration).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_is_compiled_in() {
        for (folder, files) in [("sqlite", &SQLITE), ("postgres", &POSTGRES)] {
            let path = format!("{}/../migrations/{folder}", env!("CARGO_MANIFEST_DIR"));
            let entries = std::fs::read_dir(path).unwrap();
            let mut found: Vec<_> =
                entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
            found.sort();
            let listed: Vec<_> =
                files.iter().map(|(version, about, _)| format!("{version:04}_{about}.sql")).collect();
            assert_eq!(found, listed);
        }
    }
}
