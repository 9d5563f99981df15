//! The account that the server runs as.

use std::fs;
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use rustix::process::geteuid;

/// Unprivileged accounts that may run a server, the best first.
const NAMES: [&str; 2] = ["postgres", "nobody"];

/// Another account than root, as which PostgreSQL refuses to run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Account {
    uid: u32,
    gid: u32,
}

impl Account {
    /// The account to change to; none if this process is not root.
    pub(super) fn needed() -> Result<Option<Self>> {
        if !geteuid().is_root() {
            return Ok(None);
        }
        let users = fs::read_to_string("/etc/passwd").context("cannot read /etc/passwd")?;
        let account = NAMES.iter().find_map(|name| Self::listed(&users, name));
        account
            .map(Some)
            .context("PostgreSQL does not run as root, and there is neither a user postgres nor nobody; add one or run as another user")
    }

    fn listed(users: &str, name: &str) -> Option<Self> {
        let line = users.lines().find(|line| line.split(':').next() == Some(name))?;
        let mut ids = line.split(':').skip(2).map(str::parse);
        Some(Self { uid: ids.next()?.ok()?, gid: ids.next()?.ok()? })
    }

    /// Makes it the owner of a folder or file.
    pub(super) fn own(self, path: &Path) -> Result<()> {
        chown(path, Some(self.uid), Some(self.gid))
            .with_context(|| format!("cannot give {} to user {}", path.display(), self.uid))
    }

    /// Makes a program run as this account.
    pub(super) fn apply(self, command: &mut Command) {
        command.uid(self.uid).gid(self.gid);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accounts_are_found_by_their_whole_name() {
        let users = "root:x:0:0::/root:/bin/sh\npostgres2:x:5:6::/:/bin/sh\npostgres:x:101:104::/:/bin/sh\nbroken:x:one:2::/:\n";
        assert_eq!(Account::listed(users, "postgres"), Some(Account { uid: 101, gid: 104 }));
        assert_eq!(Account::listed(users, "nobody"), None);
        assert_eq!(Account::listed(users, "broken"), None);
    }
}
