//! How much memory the GPUs have, as `nvidia-smi` tells: sweeps may ask for GPUs of some size.

use std::io::Read as _;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::machine::slots::Slot;

/// How long `nvidia-smi` may take: a driver that hangs must not keep a worker from starting.
const PATIENCE: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(20);
/// Bytes of its answer.
const ANSWER_BYTES_MAX: u64 = 1 << 20;

/// Memory of the smallest GPU among the slots, in GiB; 0 without GPUs, and where nothing tells.
pub fn smallest_gpu_gib(slots: &[Slot]) -> f64 {
    let visible: Vec<&str> =
        slots.iter().map(|slot| slot.visible.as_str()).filter(|visible| !visible.is_empty()).collect();
    if visible.is_empty() {
        return 0.0;
    }
    smallest(&visible, &ask().unwrap_or_default())
}

fn ask() -> Option<String> {
    let mut command = Command::new("nvidia-smi");
    command.args(["--query-gpu=uuid,memory.total", "--format=csv,noheader,nounits"]);
    let mut process =
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().ok()?;
    for _ in 0..PATIENCE.as_millis() / POLL.as_millis() {
        if let Some(status) = process.try_wait().ok()? {
            let mut answer = String::new();
            process.stdout.take()?.take(ANSWER_BYTES_MAX).read_to_string(&mut answer).ok()?;
            return status.success().then_some(answer);
        }
        std::thread::sleep(POLL);
    }
    let _ = process.kill();
    let _ = process.wait();
    None
}

/// Lines such as `GPU-7f.., 81559`: an id, and MiB.
fn smallest(visible: &[&str], answer: &str) -> f64 {
    let gpus: Vec<(&str, f64)> = answer
        .lines()
        .filter_map(|line| {
            let (id, mib) = line.split_once(',')?;
            let mib: f64 = mib.trim().parse().ok()?;
            (mib.is_finite() && mib > 0.0).then_some((id.trim(), mib / 1_024.0))
        })
        .collect();
    let smallest = |gpus: &mut dyn Iterator<Item = f64>| gpus.reduce(f64::min);
    // CUDA counts in another order than the driver unless told otherwise, so a number may mean any GPU; an id means one, or some slice of
    // one, of which nothing is known.
    let of = |visible: &str| match visible.parse::<u32>() {
        Ok(_) => smallest(&mut gpus.iter().map(|(_, gib)| *gib)),
        Err(_) => smallest(&mut gpus.iter().filter(|(id, _)| id.starts_with(visible)).map(|(_, gib)| *gib)),
    };
    let sizes: Option<Vec<f64>> = visible.iter().map(|visible| of(visible)).collect();
    sizes.and_then(|sizes| smallest(&mut sizes.into_iter())).unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smallest_of_the_chosen_gpus_counts_and_odd_answers_are_nothing() {
        let answer = "GPU-aa-1, 81920\nGPU-bb-2, 40960\n";
        for (visible, answer, gib) in [
            (&["0"][..], answer, 40.0),
            (&["GPU-aa"], answer, 80.0),
            (&["GPU-aa-1", "GPU-bb-2"], answer, 40.0),
            (&["GPU-aa", "MIG-cc"], answer, 0.0),
            (&["0"], "", 0.0),
            (&["0"], "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver.\n", 0.0),
            (&["0"], "GPU-aa, [N/A]\nGPU-bb, -3\nGPU-cc, NaN\nGPU-dd, 1024\n\n", 1.0),
        ] {
            assert_eq!(smallest(visible, answer), gib, "{visible:?} {answer}");
        }
        let cpu = Slot { device: "cpu".into(), visible: String::new(), inside: "cpu" };
        assert_eq!(smallest_gpu_gib(&[cpu]), 0.0);
    }
}
