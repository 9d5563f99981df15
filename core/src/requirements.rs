//! Requirements of sweeps and abilities of workers.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The requirements of a sweep.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Requirements {
    /// Every one of these must be among the worker's tags. Sorted.
    pub tags: Vec<String>,
    /// At least so much memory on each of the worker's GPUs, in GiB; 0 asks for no GPU.
    pub gpu_memory_gib: f64,
    /// Whether the worker must let sweeps run programs of their own.
    pub commands: bool,
    /// Only the worker process of this id: for `sortie verify`. Checked by [`crate::schedule::Request::fits`], because it is no ability.
    pub worker: Option<String>,
}

/// What a worker can do.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Abilities {
    /// Its tags.
    pub tags: Vec<String>,
    /// Memory of its smallest GPU in GiB; 0 without GPUs.
    pub gpu_memory_gib: f64,
    /// Whether it runs programs that a sweep names.
    pub commands: bool,
}

impl Abilities {
    /// Whether a trial with these requirements may run here.
    pub fn meet(&self, requirements: &Requirements) -> bool {
        self.lack(requirements).is_none()
    }

    /// What keeps a trial with these requirements from running here; none if nothing does.
    pub fn lack(&self, requirements: &Requirements) -> Option<Lack> {
        let Requirements { tags, gpu_memory_gib, commands, worker: _ } = requirements;
        if *commands && !self.commands {
            return Some(Lack::Commands);
        }
        if let Some(tag) = tags.iter().find(|tag| !self.tags.contains(tag)) {
            return Some(Lack::Tag(tag.clone()));
        }
        (*gpu_memory_gib > self.gpu_memory_gib).then_some(Lack::GpuMemory(*gpu_memory_gib))
    }
}

/// What a worker lacks. Its text is in the words of the worker's options.
#[derive(Clone, Debug, PartialEq)]
pub enum Lack {
    /// It runs no programs that a sweep names.
    Commands,
    /// It does not have this tag.
    Tag(String),
    /// One of its GPUs has less memory than this, in GiB.
    GpuMemory(f64),
}

impl fmt::Display for Lack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Commands => f.write_str("--allow-commands"),
            Self::Tag(tag) => write!(f, "--tag {tag}"),
            Self::GpuMemory(gib) => write!(f, "{gib} GiB of memory on each GPU"),
        }
    }
}

impl Lack {
    /// What is said when every worker lacks it.
    pub fn of_all(&self) -> String {
        match self {
            Self::Commands => "no worker allows commands".to_owned(),
            Self::Tag(tag) => format!("no worker has tag {tag}"),
            Self::GpuMemory(gib) => format!("no worker has {gib} GiB of memory on each GPU"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_requirement_must_be_met() {
        let worker =
            Abilities { tags: vec!["a100".into(), "night".into()], gpu_memory_gib: 39.5, commands: false };
        let needs = |tags: &[&str], gpu_memory_gib, commands| Requirements {
            tags: tags.iter().map(|tag| (*tag).to_owned()).collect(),
            gpu_memory_gib,
            commands,
            worker: None,
        };
        for (requirements, lack) in [
            (needs(&[], 0.0, false), None),
            (needs(&["night"], 24.0, false), None),
            (needs(&["night", "h100"], 0.0, false), Some("--tag h100")),
            (needs(&[], 40.0, false), Some("40 GiB of memory on each GPU")),
            (needs(&[], 0.0, true), Some("--allow-commands")),
        ] {
            let found = worker.lack(&requirements).map(|lack| lack.to_string());
            assert_eq!(found.as_deref(), lack, "{requirements:?}");
        }
    }
}
