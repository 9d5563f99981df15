//! Finds other programs.

use std::env;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Folders of servers that are not in every user's PATH.
const SERVER_FOLDERS: [&str; 3] = ["/usr/local/sbin", "/usr/sbin", "/sbin"];
/// Debian keeps a folder for each major version of PostgreSQL, none of them in PATH.
const POSTGRESQL_VERSIONS: &str = "/usr/lib/postgresql";

/// A program of ours that shares no identity and no access files with whoever runs the tests.
pub fn isolated(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    command.env("XDG_STATE_HOME", state_home());
    command
}

/// The state folder of all programs that the tests start: beside the program that runs now.
pub fn state_home() -> PathBuf {
    env::current_exe().unwrap_or_default().with_file_name("state")
}

/// The first executable file of that name in PATH, or the path itself if it has a slash.
pub fn find(program: impl AsRef<OsStr>) -> Option<PathBuf> {
    let program = Path::new(program.as_ref());
    if program.components().count() > 1 {
        return is_executable(program).then(|| program.to_path_buf());
    }
    let folders = env::var_os("PATH")?;
    env::split_paths(&folders).map(|folder| folder.join(program)).find(|path| is_executable(path))
}

/// The same for a server: in PATH, else where systems keep servers out of PATH.
pub fn find_server(program: &str) -> Option<PathBuf> {
    let newest = newest_version(Path::new(POSTGRESQL_VERSIONS)).map(|version| version.join("bin"));
    let folders = SERVER_FOLDERS.iter().map(PathBuf::from).chain(newest);
    find(program).or_else(|| folders.map(|folder| folder.join(program)).find(|path| is_executable(path)))
}

/// The folder whose name is the highest number.
fn newest_version(folder: &Path) -> Option<PathBuf> {
    let names = fs::read_dir(folder).ok()?.flatten().map(|entry| entry.file_name());
    let newest = names.filter_map(|name| name.to_str()?.parse::<u32>().ok()).max()?;
    Some(folder.join(newest.to_string()))
}

fn is_executable(path: &Path) -> bool {
    path.metadata().is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_executable_files_are_programs() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tool");
        fs::write(&path, "").unwrap();
        assert_eq!(find(&path), None);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        assert_eq!(find(&path), Some(path));
        assert_eq!(find(folder.path()), None);
        assert!(find("sh").is_some());
        assert!(find_server("sh").is_some());
        assert_eq!(find_server("no-such-server"), None);
    }

    #[test]
    fn versions_are_numbers() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(newest_version(folder.path()), None);
        for name in ["9", "17", "16", "common"] {
            fs::create_dir(folder.path().join(name)).unwrap();
        }
        assert_eq!(newest_version(folder.path()), Some(folder.path().join("17")));
        assert_eq!(newest_version(&folder.path().join("gone")), None);
    }
}
