//! Looks for what trials need, before the worker takes one: datasets and programs.

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use rustix::fs::{Access, access};
use rustix::io::Errno;
use sortie_core::names::is_folder_name;
use sortie_core::prerequisite::{Findings, Missing, PREREQUISITES_MAX, Prerequisite};

use crate::config::AgentConfig;

/// Where programs are looked for when PATH is not set, as libc does.
const DEFAULT_PATH: &str = "/bin:/usr/bin";

/// What the coordinator has asked this worker to look for, the latest last.
#[derive(Clone, Debug, Default)]
pub(crate) struct Prerequisites(Vec<Prerequisite>);

impl Prerequisites {
    /// Looks for these from now on, too; whether one of them is new. The oldest are forgotten when they become too many.
    pub(crate) fn add(&mut self, wanted: Vec<Prerequisite>) -> bool {
        let before = self.0.len();
        for prerequisite in wanted {
            if !self.0.contains(&prerequisite) {
                self.0.push(prerequisite);
            }
        }
        let is_new = self.0.len() > before;
        self.0.drain(..self.0.len().saturating_sub(PREREQUISITES_MAX));
        is_new
    }

    /// Looks for all of them. It may wait for a disk.
    pub(crate) fn look(&self, config: &AgentConfig) -> Findings {
        let mut findings = Findings::default();
        for prerequisite in &self.0 {
            let found = match prerequisite {
                Prerequisite::Dataset(name) if !is_folder_name(name) => {
                    Err(format!("{name:?} is no name of a folder"))
                }
                Prerequisite::Dataset(name) => (config.find_dataset)(&config.data, name),
                Prerequisite::Program(program) => find_program(program, env::var_os("PATH")),
            };
            match found {
                Ok(()) => findings.has.push(prerequisite.clone()),
                Err(reason) => {
                    findings.lacks.push(Missing { prerequisite: prerequisite.clone(), reason });
                }
            }
        }
        findings
    }
}

/// Looks for a program as `execvp` does: in the folders of PATH unless its name has a slash.
fn find_program(program: &str, path: Option<OsString>) -> Result<(), String> {
    let folders = path.unwrap_or_else(|| DEFAULT_PATH.into());
    let places: Vec<PathBuf> = if program.contains('/') {
        vec![program.into()]
    } else {
        env::split_paths(&folders).map(|folder| folder.join(program)).collect()
    };
    let mut refused = None;
    for place in &places {
        match may_execute(place) {
            Ok(()) => return Ok(()),
            Err(Errno::NOENT | Errno::NOTDIR) => {}
            Err(error) => refused = refused.or_else(|| Some((place, std::io::Error::from(error)))),
        }
    }
    Err(match refused {
        Some((place, error)) => format!("cannot run {program:?}: {}: {error}", place.display()),
        None if program.contains('/') => format!("cannot run {program:?}: there is no such file"),
        None => format!("cannot run {program:?}: it is in none of the folders of PATH"),
    })
}

fn may_execute(place: &Path) -> Result<(), Errno> {
    access(place, Access::EXEC_OK)?;
    if place.is_dir() { Err(Errno::ACCESS) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn programs_are_found_as_they_would_be_started() {
        let folder = tempfile::tempdir().unwrap();
        let [first, second] = ["first", "second"].map(|name| folder.path().join(name));
        for (folder, name, mode) in
            [(&first, "plain", 0o644), (&second, "plain", 0o755), (&first, "text", 0o644)]
        {
            fs::create_dir_all(folder).unwrap();
            fs::write(folder.join(name), "").unwrap();
            fs::set_permissions(folder.join(name), fs::Permissions::from_mode(mode)).unwrap();
        }
        fs::create_dir(first.join("folder")).unwrap();
        let path = env::join_paths([&first, &second]).unwrap();
        let find = |program: &str| find_program(program, Some(path.clone()));
        assert_eq!(find("plain"), Ok(()));
        assert_eq!(find(second.join("plain").to_str().unwrap()), Ok(()));
        let none = find("other").unwrap_err();
        assert_eq!(none, "cannot run \"other\": it is in none of the folders of PATH");
        for name in ["text", "folder"] {
            let error = find(name).unwrap_err();
            assert!(error.contains(&format!("first/{name}: Permission denied")), "{error}");
        }
        assert_eq!(find("./no/such").unwrap_err(), "cannot run \"./no/such\": there is no such file");
        assert_eq!(find_program("sh", None), Ok(()));
    }

    #[test]
    fn the_latest_are_looked_for() {
        let named = |index: usize| Prerequisite::Dataset(format!("d{index}"));
        let mut wanted = Prerequisites::default();
        assert!(wanted.add((0..PREREQUISITES_MAX).map(named).collect()));
        assert!(!wanted.add(vec![named(3)]));
        assert!(wanted.add(vec![named(PREREQUISITES_MAX)]));
        assert_eq!((wanted.0.len(), &wanted.0[0]), (PREREQUISITES_MAX, &named(1)));
    }
}
