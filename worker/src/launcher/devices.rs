//! Devices and slots: where trials may run on this machine.
//!
//! GPUs are those that a probe found, in CUDA's own order; each trial gets the UUID of its GPU, because CUDA and the driver's
//! tools number GPUs differently. Where no libtorch is needed, they are counted without one.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::path::Path;
use std::str::FromStr;

use sortie_core::pipe::{CudaDriver, Probe, cuda_version};

/// The most slots of a worker.
const SLOTS_MAX: u16 = 256;

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

/// What `--slots` asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SlotCount {
    /// On a GPU as many trials as its memory holds and the processors feed; one on the CPU.
    Auto,
    /// So many in all.
    Trials(u16),
}

impl FromStr for SlotCount {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let count = text.parse().ok().filter(|count| (1..=SLOTS_MAX).contains(count)).map(Self::Trials);
        let auto = (text == "auto").then_some(Self::Auto);
        count.or(auto).ok_or_else(|| format!("must be auto, or a number from 1 to {SLOTS_MAX}"))
    }
}

/// Runs one trial at a time on a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slot {
    /// The device as this worker names it: `cpu` or `cuda:N`.
    pub device: String,
    /// What the trial's process gets as CUDA_VISIBLE_DEVICES, so that it sees only its own GPU.
    pub visible: String,
    /// The device as the trial's process names it: it sees one GPU at most.
    pub inside: &'static str,
}

/// The slots of a worker, and how they are used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlotPlan {
    /// As many as there may ever be trials at the same time.
    pub slots: Vec<Slot>,
    /// Whether trials share a device as far as its memory goes; otherwise all slots are used, whatever the trials need.
    pub by_memory: bool,
}

impl SlotPlan {
    /// How many devices it uses.
    pub fn devices(&self) -> usize {
        self.slots.iter().map(|slot| &slot.device).collect::<BTreeSet<_>>().len()
    }
}

/// Distributes slots over the chosen devices. `processors`: those of this machine, of which each trial on a GPU that it shares keeps two
/// busy: one starts its work there, and one makes its batches.
///
/// # Errors
/// One line that names a GPU that is not there.
pub fn plan(
    selection: &DeviceSelection,
    gpus: &[String],
    count: SlotCount,
    processors: usize,
) -> Result<SlotPlan, String> {
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
    let by_memory = count == SlotCount::Auto && !devices[0].visible.is_empty();
    let count = match count {
        SlotCount::Trials(count) => usize::from(count),
        SlotCount::Auto if by_memory => {
            let most = usize::from(SLOTS_MAX) / devices.len();
            devices.len() * (processors / 2 / devices.len()).clamp(1, most.max(1))
        }
        SlotCount::Auto => devices.len(),
    };
    Ok(SlotPlan { slots: devices.into_iter().cycle().take(count).collect(), by_memory })
}

/// The GPUs that trials of libtorch can use, as CUDA_VISIBLE_DEVICES would name them; none on a machine that has none. `visible` is the
/// value of that variable.
///
/// # Errors
/// One line where this machine has a GPU, or CUDA_VISIBLE_DEVICES names one, that cannot be used: training on the CPU instead would take
/// weeks, and nobody would notice.
pub fn usable_gpus(probe: &Probe, visible: Option<&OsStr>) -> Result<Vec<String>, String> {
    let words = visible.map(words).unwrap_or_default();
    // Slurm writes `NoDevFiles` for a job without a GPU.
    if visible.is_some_and(|value| !value.is_empty()) && words.is_empty() {
        return Ok(Vec::new());
    }
    let Some(driver) = &probe.driver else {
        return match words.first() {
            Some(_) => {
                Err("CUDA_VISIBLE_DEVICES names GPUs, and no NVIDIA driver is installed here".to_owned())
            }
            None => Ok(Vec::new()),
        };
    };
    if driver.gpus.is_empty() {
        let reason = driver.error.as_deref().unwrap_or("it shows none");
        return match (words.first(), reason) {
            (Some(_), _) => {
                Err(format!("CUDA_VISIBLE_DEVICES names GPUs, and the NVIDIA driver shows none ({reason})"))
            }
            (None, "CUDA_ERROR_NO_DEVICE" | "it shows none") => Ok(Vec::new()),
            (None, reason) => Err(format!("the NVIDIA driver does not work here: {reason}")),
        };
    }
    check_libraries(probe, driver)?;
    // CUDA shows one slice at most, so the name that the user gave is passed on.
    if let Some(slice) = words.iter().find(|word| word.starts_with("MIG-")) {
        return Ok(vec![slice.clone()]);
    }
    Ok(driver.gpus.iter().map(|gpu| gpu.uuid.clone()).collect())
}

/// Whether libtorch's CUDA libraries fit this driver.
fn check_libraries(probe: &Probe, driver: &CudaDriver) -> Result<(), String> {
    let (build, gpu) = (&probe.trainer.libtorch, &driver.gpus[0].name);
    let Some(cuda) = &probe.cuda else {
        return Err(format!(
            "libtorch {build} in {} has no CUDA libraries, and this machine has a GPU ({gpu})",
            probe.folder.display()
        ));
    };
    if let (Some(runtime), Some(supported)) = (cuda.runtime, driver.version) {
        // Minor versions of one major version run on each other's drivers.
        if runtime / 1_000 > supported / 1_000 {
            let (runtime, supported) = (cuda_version(runtime), cuda_version(supported));
            return Err(format!(
                "libtorch {build} needs a driver for CUDA {runtime}, and the one here supports {supported} at most"
            ));
        }
    }
    match &cuda.error {
        Some(error) => Err(format!("the CUDA libraries of libtorch {build} do not load: {error}")),
        None => Ok(()),
    }
}

/// Memory of the smallest of the GPUs that the slots use, in GiB; 0 without GPUs.
pub fn smallest_gpu_gib(slots: &[Slot], probe: &Probe) -> f64 {
    let gpus = probe.driver.iter().flat_map(|driver| &driver.gpus);
    let used = gpus.filter(|gpu| slots.iter().any(|slot| slot.visible == gpu.uuid));
    used.map(|gpu| gpu.memory_bytes as f64 / f64::from(1 << 30)).reduce(f64::min).unwrap_or(0.0)
}

fn words(variable: &OsStr) -> Vec<String> {
    let words: Vec<String> =
        variable.to_string_lossy().split(',').map(|word| word.trim().to_owned()).collect();
    // As CUDA reads it: what names no GPU, such as -1, hides itself and whatever follows.
    words.into_iter().take_while(|word| names_a_gpu(word)).collect()
}

/// Numbers, and ids of GPUs and their slices, which may be cut short.
fn names_a_gpu(word: &str) -> bool {
    is_number(word) || word.starts_with("GPU-") || word.starts_with("MIG-")
}

/// The GPUs of this machine where no libtorch was asked: those that CUDA_VISIBLE_DEVICES names, else one per `/dev/nvidiaN`.
pub fn gpus_without_libtorch(variable: Option<&OsStr>, dev: &Path) -> Vec<String> {
    if let Some(allowed) = variable {
        return words(allowed);
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

    /// As many slots as there are devices where none are counted.
    fn devices(selection: &str, gpus: &[String], count: Option<u16>) -> Vec<(String, String)> {
        let (count, processors) = count.map_or((SlotCount::Auto, 1), |count| (SlotCount::Trials(count), 64));
        let plan = plan(&selection.parse().unwrap(), gpus, count, processors).unwrap();
        plan.slots.into_iter().map(|slot| (slot.device, slot.visible)).collect()
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
    fn auto_is_one_trial_on_the_cpu_and_what_the_processors_feed_on_gpus() {
        let of = |selection: DeviceSelection, gpus: &str, processors: usize| {
            let gpus: Vec<String> = gpus.split_whitespace().map(str::to_owned).collect();
            let plan = plan(&selection, &gpus, SlotCount::Auto, processors).unwrap();
            (plan.slots.len(), plan.devices(), plan.by_memory)
        };
        assert_eq!(of(DeviceSelection::All, "", 64), (1, 1, false));
        assert_eq!(of(DeviceSelection::Cpu, "a b", 64), (1, 1, false));
        for (gpus, processors, slots) in [
            ("a", 16, 8),
            ("a", 1, 1),
            ("a b", 16, 8),
            ("a b", 3, 2),
            ("a b c d", 2_000, 256),
            ("a b c", 14, 6),
        ] {
            let devices = gpus.split(' ').count();
            assert_eq!(
                of(DeviceSelection::All, gpus, processors),
                (slots, devices, true),
                "{gpus}, {processors}"
            );
        }
        let fixed = plan(&DeviceSelection::All, &words("a b"), SlotCount::Trials(5), 64).unwrap();
        assert_eq!((fixed.slots.len(), fixed.devices(), fixed.by_memory), (5, 2, false));
        assert_eq!(
            ("auto".parse(), "256".parse(), "1".parse()),
            (Ok(SlotCount::Auto), Ok(SlotCount::Trials(256)), Ok(SlotCount::Trials(1)))
        );
        for bad in ["", "0", "257", "-1", "Auto", "two"] {
            let refused = bad.parse::<SlotCount>().unwrap_err();
            assert_eq!(refused, "must be auto, or a number from 1 to 256", "{bad}");
        }
    }

    #[test]
    fn what_is_not_there_is_named() {
        let missing = DeviceSelection::Cuda(vec![0, 3]);
        let refused = plan(&missing, &words("0 1"), SlotCount::Auto, 1).unwrap_err();
        assert_eq!(refused, "cuda:3 is not there: this machine shows 2 GPUs");
        for bad in ["", "gpu", "cuda", "cuda:", "cuda:x", "cuda:0,", "cuda:-1", "cuda:0,0", "cpu,cuda:0"] {
            assert!(bad.parse::<DeviceSelection>().is_err(), "{bad}");
        }
    }

    /// As `sortie-trainer probe` printed it on a machine with two GPUs.
    const RECORDED: &str = r#"{"trainer":{"build":"b","protocol_version":3,"libtorch":"2.11.0+cu130"},"folder":"/t/lib",
        "cuda":{"runtime":13000,"error":null},"driver":{"version":13010,"error":null,"gpus":[
        {"uuid":"GPU-5b0e4a4c-68db-d210-dea5-af3a27e668ac","name":"NVIDIA H200","memory_bytes":150754820096},
        {"uuid":"GPU-0a5f09ac-d0d4-5b10-92ae-50466aa5438f","name":"NVIDIA T4","memory_bytes":15835660288}]}}"#;

    fn recorded(change: impl FnOnce(&mut Probe)) -> Probe {
        let mut probe = serde_json::from_str(RECORDED).unwrap();
        change(&mut probe);
        probe
    }

    #[test]
    fn trials_are_handed_uuids_in_cudas_order() {
        let probe = recorded(|_| {});
        let gpus = usable_gpus(&probe, None).unwrap();
        assert_eq!(
            gpus,
            ["GPU-5b0e4a4c-68db-d210-dea5-af3a27e668ac", "GPU-0a5f09ac-d0d4-5b10-92ae-50466aa5438f"]
        );
        let slots = plan(&DeviceSelection::All, &gpus, SlotCount::Auto, 1).unwrap().slots;
        assert!((smallest_gpu_gib(&slots, &probe) - 14.748).abs() < 0.001);
        assert_eq!(
            (smallest_gpu_gib(&slots[..1], &probe).round(), smallest_gpu_gib(&[], &probe)),
            (140.0, 0.0)
        );
        let slice = "MIG-41b3359c-e721-56e5-8009-12e5797ed514";
        let sliced = recorded(|probe| probe.driver.as_mut().unwrap().gpus.truncate(1));
        assert_eq!(usable_gpus(&sliced, Some(OsStr::new(slice))).unwrap(), [slice]);
        let machine_without = recorded(|probe| probe.driver = None);
        assert!(usable_gpus(&machine_without, None).unwrap().is_empty());
        let hidden = recorded(|probe| {
            let driver = probe.driver.as_mut().unwrap();
            (driver.gpus, driver.error) = (Vec::new(), Some("CUDA_ERROR_NO_DEVICE".to_owned()));
        });
        assert!(usable_gpus(&hidden, Some(OsStr::new("-1"))).unwrap().is_empty());
        for none in ["NoDevFiles", "-1", "x,0"] {
            assert!(usable_gpus(&probe, Some(OsStr::new(none))).unwrap().is_empty(), "{none}");
        }
    }

    #[test]
    fn a_gpu_that_cannot_be_used_is_never_the_cpu_in_silence() {
        let none_seen = |error: &str| {
            let error = error.to_owned();
            recorded(move |probe| {
                let driver = probe.driver.as_mut().unwrap();
                (driver.gpus, driver.error) = (Vec::new(), Some(error));
            })
        };
        let cases = [
            (
                recorded(|probe| (probe.cuda, probe.trainer.libtorch) = (None, "2.11.0+cpu".to_owned())),
                None,
                "has no CUDA libraries",
            ),
            (
                recorded(|probe| probe.driver.as_mut().unwrap().version = Some(12_040)),
                None,
                "needs a driver for CUDA 13.0",
            ),
            (
                recorded(|probe| probe.cuda.as_mut().unwrap().error = Some("x.so is missing".to_owned())),
                None,
                "x.so is missing",
            ),
            (recorded(|probe| probe.driver = None), Some("0"), "no NVIDIA driver is installed"),
            (none_seen("CUDA_ERROR_NO_DEVICE"), Some("7"), "shows none"),
            (none_seen("CUDA_ERROR_SYSTEM_DRIVER_MISMATCH"), None, "CUDA_ERROR_SYSTEM_DRIVER_MISMATCH"),
        ];
        for (probe, visible, part) in cases {
            let error = usable_gpus(&probe, visible.map(OsStr::new)).unwrap_err();
            assert!(error.contains(part) && error.lines().count() == 1, "{error}");
        }
    }

    #[test]
    fn gpus_are_what_the_variable_allows_else_what_dev_shows() {
        let dev = tempfile::tempdir().unwrap();
        for name in ["nvidia0", "nvidia10", "nvidiactl", "nvidia-uvm", "nvidia", "null"] {
            std::fs::write(dev.path().join(name), b"").unwrap();
        }
        let gpus = |variable: Option<&str>| gpus_without_libtorch(variable.map(OsStr::new), dev.path());
        assert_eq!(gpus(None), words("0 1"));
        assert_eq!(gpus(Some("3, GPU-1")), words("3 GPU-1"));
        assert_eq!(gpus(Some("1,-1,0")), words("1"));
        assert!(gpus(Some("")).is_empty());
        assert!(gpus_without_libtorch(None, &dev.path().join("gone")).is_empty());
    }
}
