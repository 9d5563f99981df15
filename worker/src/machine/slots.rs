//! Devices and slots: where trials may run on this machine. GPUs are counted without libtorch, which the agent never calls.

use std::ffi::OsStr;
use std::path::Path;
use std::str::FromStr;

/// What `--devices` asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeviceSelection {
    /// Every GPU that is visible; the CPU where there is none.
    All,
    /// The CPU.
    Cpu,
    /// These of the visible GPUs, counted from 0.
    Cuda(Vec<usize>),
}

impl FromStr for DeviceSelection {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bad = || format!("{text:?} is not a choice of devices; it must be all, cpu, or cuda:0,1");
        match text {
            "all" => return Ok(Self::All),
            "cpu" => return Ok(Self::Cpu),
            _ => {}
        }
        let mut gpus: Vec<usize> = Vec::new();
        for word in text.strip_prefix("cuda:").ok_or_else(bad)?.split(',') {
            // Both cuda:0,1 and cuda:0,cuda:1.
            let index: u16 = word.strip_prefix("cuda:").unwrap_or(word).parse().map_err(|_| bad())?;
            let index = usize::from(index);
            if gpus.contains(&index) {
                return Err(format!("cuda:{index} is named twice; --slots gives a device several trials"));
            }
            gpus.push(index);
        }
        Ok(Self::Cuda(gpus))
    }
}

/// A place for one trial.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slot {
    /// The device as this worker names it: `cpu` or `cuda:N`.
    pub device: String,
    /// What the trial's process gets as CUDA_VISIBLE_DEVICES, so that it cannot touch another's GPU.
    pub visible: String,
    /// The device as the trial's process names it: it sees one GPU at most.
    pub inside: &'static str,
}

/// Deals slots out over the chosen devices, one each unless `count` says otherwise.
///
/// # Errors
/// One line that names a GPU that is not there.
pub fn plan(selection: &DeviceSelection, gpus: &[String], count: Option<usize>) -> Result<Vec<Slot>, String> {
    let chosen: Vec<usize> = match selection {
        DeviceSelection::Cpu => Vec::new(),
        DeviceSelection::All => (0..gpus.len()).collect(),
        DeviceSelection::Cuda(chosen) => chosen.clone(),
    };
    let mut devices = Vec::new();
    for index in chosen {
        let visible = gpus
            .get(index)
            .ok_or_else(|| format!("cuda:{index} is not there: this machine shows {} GPUs", gpus.len()))?;
        devices.push(Slot { device: format!("cuda:{index}"), visible: visible.clone(), inside: "cuda:0" });
    }
    if devices.is_empty() {
        devices.push(Slot { device: "cpu".to_owned(), visible: String::new(), inside: "cpu" });
    }
    let count = count.unwrap_or(devices.len());
    Ok(devices.into_iter().cycle().take(count).collect())
}

/// The GPUs of this machine as CUDA_VISIBLE_DEVICES would name them: what that variable allows, else one per `/dev/nvidiaN`.
pub fn visible_gpus(variable: Option<&OsStr>, dev: &Path) -> Vec<String> {
    if let Some(allowed) = variable {
        let words: Vec<String> =
            allowed.to_string_lossy().split(',').map(|word| word.trim().to_owned()).collect();
        // As CUDA reads it: an invalid entry, such as -1, hides itself and whatever follows.
        return words.into_iter().take_while(|word| !word.is_empty() && !word.starts_with('-')).collect();
    }
    let Ok(entries) = std::fs::read_dir(dev) else {
        return Vec::new();
    };
    let names = entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned());
    let count = names.filter(|name| name.strip_prefix("nvidia").is_some_and(is_number)).count();
    // CUDA counts from 0 whatever numbers the driver's device files have.
    (0..count).map(|index| index.to_string()).collect()
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split(' ').map(str::to_owned).collect()
    }

    fn devices(selection: &str, gpus: &[String], count: Option<usize>) -> Vec<(String, String)> {
        let slots = plan(&selection.parse().unwrap(), gpus, count).unwrap();
        slots.into_iter().map(|slot| (slot.device, slot.visible)).collect()
    }

    fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect()
    }

    #[test]
    fn slots_are_devices_unless_counted() {
        let gpus = words("2 GPU-7f");
        assert_eq!(devices("all", &gpus, None), pairs(&[("cuda:0", "2"), ("cuda:1", "GPU-7f")]));
        assert_eq!(
            devices("all", &gpus, Some(3)),
            pairs(&[("cuda:0", "2"), ("cuda:1", "GPU-7f"), ("cuda:0", "2")])
        );
        assert_eq!(devices("cuda:1", &gpus, None), pairs(&[("cuda:1", "GPU-7f")]));
        assert_eq!(devices("cuda:1,cuda:0", &gpus, Some(1)), pairs(&[("cuda:1", "GPU-7f")]));
        assert_eq!(devices("cpu", &gpus, Some(2)), pairs(&[("cpu", ""), ("cpu", "")]));
        assert_eq!(devices("all", &[], None), pairs(&[("cpu", "")]));
    }

    #[test]
    fn what_is_not_there_is_named() {
        let refused = plan(&DeviceSelection::Cuda(vec![0, 3]), &words("0 1"), None).unwrap_err();
        assert_eq!(refused, "cuda:3 is not there: this machine shows 2 GPUs");
        for bad in ["", "gpu", "cuda", "cuda:", "cuda:x", "cuda:0,", "cuda:-1", "cuda:0,0", "cpu,cuda:0"] {
            assert!(bad.parse::<DeviceSelection>().is_err(), "{bad}");
        }
    }

    #[test]
    fn gpus_are_what_the_variable_allows_else_what_dev_shows() {
        let dev = tempfile::tempdir().unwrap();
        for name in ["nvidia0", "nvidia10", "nvidiactl", "nvidia-uvm", "nvidia", "null"] {
            std::fs::write(dev.path().join(name), b"").unwrap();
        }
        let gpus = |variable: Option<&str>| visible_gpus(variable.map(OsStr::new), dev.path());
        assert_eq!(gpus(None), words("0 1"));
        assert_eq!(gpus(Some("3, GPU-1")), words("3 GPU-1"));
        assert_eq!(gpus(Some("1,-1,0")), words("1"));
        assert!(gpus(Some("")).is_empty());
        assert!(visible_gpus(None, &dev.path().join("gone")).is_empty());
    }
}
