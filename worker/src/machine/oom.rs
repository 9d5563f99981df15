//! Whether the kernel's out-of-memory killer killed a process: the process itself cannot report that.

use std::fs;
use std::path::{Path, PathBuf};

/// A counter of the kernel: how many processes it killed because memory ran out.
#[derive(Clone, Debug)]
pub(crate) struct OomKills {
    /// The file that holds it, if the system has one.
    file: Option<PathBuf>,
}

impl OomKills {
    /// That of this process's control group, which its trials share; where there is none, that of the whole machine.
    pub(crate) fn find() -> Self {
        Self::find_below(Path::new("/sys/fs/cgroup"), Path::new("/proc"))
    }

    fn find_below(groups: &Path, proc: &Path) -> Self {
        let own = fs::read_to_string(proc.join("self/cgroup")).unwrap_or_default();
        let files = own.lines().filter_map(|line| {
            // `0::/path` for version 2, `4:memory:/path` for version 1.
            let mut fields = line.splitn(3, ':');
            let (_, controllers, path) =
                (fields.next()?, fields.next()?, fields.next()?.trim_start_matches('/'));
            match controllers {
                "" => Some(groups.join(path).join("memory.events")),
                "memory" => Some(groups.join("memory").join(path).join("memory.oom_control")),
                _ => None,
            }
        });
        let mut files = files.chain([proc.join("vmstat")]);
        Self { file: files.find(|file| counted(file).is_some()) }
    }

    /// The count now; none where the system has no counter.
    pub(crate) fn count(&self) -> Option<u64> {
        self.file.as_deref().and_then(counted)
    }
}

/// The line `oom_kill N` of any of these files.
fn counted(file: &Path) -> Option<u64> {
    fs::read_to_string(file)
        .ok()?
        .lines()
        .find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_counter_that_is_there_counts() {
        let folder = tempfile::tempdir().unwrap();
        let (groups, proc) = (folder.path().join("cgroup"), folder.path().join("proc"));
        let write = |path: PathBuf, text: &str| {
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        let count = || OomKills::find_below(&groups, &proc).count();
        assert_eq!(count(), None);
        write(proc.join("vmstat"), "nr_free 3\noom_kill 7\n");
        assert_eq!(count(), Some(7));
        write(proc.join("self/cgroup"), "5:cpu:/a\n4:memory:/job/7\n0::/\n");
        assert_eq!(count(), Some(7));
        write(
            groups.join("memory/job/7/memory.oom_control"),
            "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n",
        );
        assert_eq!(count(), Some(2));
        write(proc.join("self/cgroup"), "0::/user.slice/a b\n");
        write(groups.join("user.slice/a b/memory.events"), "low 0\noom 1\noom_kill 1\noom_group_kill 0\n");
        let kills = OomKills::find_below(&groups, &proc);
        assert_eq!(kills.count(), Some(1));
        write(groups.join("user.slice/a b/memory.events"), "oom_kill 2\n");
        assert_eq!(kills.count(), Some(2));
    }
}
