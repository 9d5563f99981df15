//! How many trials share a device: as many as its memory holds. The first trial of a shape runs alone on its device and shows how much
//! memory one needs.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::finetune::MicroBatch;
use crate::trial::{TrialSpec, Work};

/// Of a device's memory, trials that share it may need so much together: allocators leave holes, and what a trial needs may grow.
const USABLE: f64 = 0.9;

/// What of a trial decides how much memory of its device it needs.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Shape {
    /// Trials with the same text need the same.
    Of(String),
    /// Nothing shows it, or it follows from what is free: such a trial has its device to itself.
    Alone,
}

/// The shape of a trial.
pub fn shape(spec: &TrialSpec) -> Shape {
    // What a program needs is its own affair.
    let (Work::Finetune(settings), Ok(own)) = (&spec.work, spec.finetune()) else { return Shape::Alone };
    let parts = match settings.micro_batch {
        // How many images it computes at a time must not follow from what runs beside it: it decides its numbers.
        Some(MicroBatch::Auto) => return Shape::Alone,
        Some(MicroBatch::Images(images)) => u64::from(images).min(own.batch()),
        None => own.batch(),
    };
    let methods: Vec<String> = own.methods().iter().map(ToString::to_string).collect();
    let kind = if spec.combination.is_some() { "combined, " } else { "" };
    Shape::Of(format!(
        "{kind}{} {}, {}, {parts} of {} images, {} px, {}, augment {}, {}",
        settings.backbone,
        settings.finetune,
        settings.optimizer,
        own.batch(),
        settings.pixels,
        settings.precision,
        settings.augment,
        methods.join(" ")
    ))
}

/// What a trial's process sees of its device's memory, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeviceMemory {
    /// The most that libtorch's allocator has held for it.
    pub peak: u64,
    /// What the allocator holds now.
    pub held: u64,
    /// What nobody uses of the device, by the device's own count.
    pub free: u64,
    /// All of the device.
    pub total: u64,
}

/// The devices of a worker and the trials on them.
#[derive(Clone, Debug)]
pub struct Packing {
    /// Whether trials share a device as far as its memory goes; otherwise up to the number of its slots, whatever they need.
    by_memory: bool,
    devices: Vec<Device>,
    needs: BTreeMap<Shape, Need>,
    /// The shape of the trial that started last.
    last: Option<Shape>,
}

#[derive(Clone, Debug)]
struct Device {
    slots: usize,
    /// Once a trial has told it.
    total: Option<u64>,
    running: Vec<Shape>,
}

/// What a trial of one shape needs.
#[derive(Clone, Copy, Debug)]
struct Need {
    /// The most that the allocator held.
    peak: u64,
    /// What a process uses beside: libraries and their workspaces. What others use of the device is counted here, too.
    beside: u64,
    /// How many share a device at most, after memory was not enough.
    at_most: usize,
}

impl Packing {
    /// For devices with so many slots each.
    pub fn new(slots: &[usize], by_memory: bool) -> Self {
        let device = |&slots| Device { slots, total: None, running: Vec::new() };
        Self { by_memory, devices: slots.iter().map(device).collect(), needs: BTreeMap::new(), last: None }
    }

    /// Whether a trial of this shape may start on a device now.
    pub fn may_start(&self, device: usize, shape: &Shape) -> bool {
        let Device { slots, total, running } = &self.devices[device];
        if running.len() >= *slots {
            return false;
        }
        if running.is_empty() || !self.by_memory {
            return true;
        }
        let Some(total) = total else { return false };
        let mut together = 0;
        for shape in running.iter().chain([shape]) {
            // One that nothing is known of runs alone.
            let Some(need) = self.needs.get(shape) else { return false };
            if running.len() >= need.at_most {
                return false;
            }
            together += need.peak + need.beside;
        }
        together as f64 <= USABLE * *total as f64
    }

    /// How many trials run on a device.
    pub fn running(&self, device: usize) -> usize {
        self.devices[device].running.len()
    }

    /// How many trials to ask for, if these devices work: where trials share by memory, one at a time, because one may come that has to wait.
    pub fn wanted(&self, works: impl Fn(usize) -> bool) -> usize {
        let devices = || (0..self.devices.len()).filter(|device| works(*device));
        if self.by_memory {
            // The next trial is likely to be like the last one.
            let next = self.last.as_ref().unwrap_or(&Shape::Alone);
            return usize::from(devices().any(|device| self.may_start(device, next)));
        }
        devices().map(|device| self.devices[device].slots - self.running(device)).sum()
    }

    /// A trial starts on a device.
    pub fn started(&mut self, device: usize, shape: Shape) {
        self.last = Some(shape.clone());
        self.devices[device].running.push(shape);
    }

    /// A trial on a device told how much memory it needs so far.
    pub fn measured(&mut self, device: usize, shape: &Shape, memory: DeviceMemory) {
        let DeviceMemory { peak, held, free, total } = memory;
        let device = &mut self.devices[device];
        device.total = Some(total);
        if *shape == Shape::Alone {
            return;
        }
        match self.needs.get_mut(shape) {
            Some(need) => need.peak = need.peak.max(peak),
            None if device.running.len() == 1 => {
                let beside = total.saturating_sub(free).saturating_sub(held);
                self.needs.insert(shape.clone(), Need { peak, beside, at_most: usize::MAX });
            }
            // Others use the device, too: this says nothing of its own.
            None => {}
        }
    }

    /// Memory was not enough for a trial on a device: fewer like those there share one from now on. Returns whether it shared the device, so
    /// that it is not at fault itself; none where sharing is not by memory.
    pub fn out_of_memory(&mut self, device: usize) -> bool {
        let running = &self.devices[device].running;
        if !self.by_memory || running.len() < 2 {
            return false;
        }
        for shape in running {
            if let Some(need) = self.needs.get_mut(shape) {
                need.at_most = need.at_most.min(running.len() - 1);
            }
        }
        true
    }

    /// A trial on a device is over.
    pub fn ended(&mut self, device: usize, shape: &Shape) {
        let running = &mut self.devices[device].running;
        if let Some(index) = running.iter().position(|other| other == shape) {
            running.swap_remove(index);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::finetune::{Average, AverageEvery, Backbone, FinetunePoint, Precision, Settings};
    use proptest::prelude::*;

    const GIB: u64 = 1 << 30;

    fn small() -> Shape {
        Shape::Of("small".to_owned())
    }

    fn large() -> Shape {
        Shape::Of("large".to_owned())
    }

    /// What a trial that is alone on a device of 24 GiB sees, which has 0.5 GiB beside what its allocator holds.
    fn seen(peak: u64) -> DeviceMemory {
        DeviceMemory { peak, held: peak / 2, free: 24 * GIB - peak / 2 - GIB / 2, total: 24 * GIB }
    }

    /// Starts trials of a shape on the first device as long as they may.
    fn fill(packing: &mut Packing, shape: &Shape) -> usize {
        while packing.may_start(0, shape) {
            packing.started(0, shape.clone());
        }
        packing.running(0)
    }

    #[test]
    fn the_first_of_a_shape_runs_alone_and_then_as_many_as_fit() {
        let mut packing = Packing::new(&[8], true);
        assert_eq!((fill(&mut packing, &small()), packing.wanted(|_| true)), (1, 0));
        // Each needs 4.5 GiB, of 0.9 * 24 GiB.
        packing.measured(0, &small(), seen(4 * GIB));
        assert_eq!(packing.wanted(|_| true), 1);
        assert_eq!((fill(&mut packing, &small()), packing.wanted(|_| true)), (4, 0));
        // The first of another shape waits until the device is free.
        assert!(!packing.may_start(0, &large()));
        for _ in 0..4 {
            assert!(!packing.may_start(0, &large()));
            packing.ended(0, &small());
        }
        assert_eq!(fill(&mut packing, &large()), 1);
        packing.measured(0, &large(), seen(15 * GIB));
        // 15.5 and 4.5 GiB fit together, and nothing more.
        assert!(!packing.may_start(0, &large()));
        assert_eq!(fill(&mut packing, &small()), 2);
    }

    #[test]
    fn what_a_trial_needs_later_counts_and_what_a_neighbour_needs_does_not() {
        let mut packing = Packing::new(&[8], true);
        packing.started(0, small());
        packing.measured(0, &small(), seen(4 * GIB));
        packing.started(0, small());
        // The device's own count now holds both; the allocator's is the trial's own.
        packing.measured(0, &small(), DeviceMemory { free: GIB, ..seen(6 * GIB) });
        assert_eq!(fill(&mut packing, &small()), 3, "each needs 6.5 GiB");
    }

    #[test]
    fn slots_bound_what_memory_would_hold() {
        let mut packing = Packing::new(&[3], true);
        packing.started(0, small());
        packing.measured(0, &small(), seen(GIB / 10));
        assert_eq!((fill(&mut packing, &small()), packing.wanted(|_| true)), (3, 0));
    }

    #[test]
    fn fewer_share_a_device_after_an_out_of_memory_and_one_that_was_alone_is_at_fault_itself() {
        let mut packing = Packing::new(&[8], true);
        packing.started(0, small());
        assert!(!packing.out_of_memory(0));
        packing.measured(0, &small(), seen(4 * GIB));
        for left in [3, 2, 1] {
            assert_eq!(fill(&mut packing, &small()), left + 1);
            assert!(packing.out_of_memory(0));
            packing.ended(0, &small());
            assert_eq!((packing.running(0), packing.wanted(|_| true)), (left, 0));
        }
        assert!(!packing.out_of_memory(0));
        packing.ended(0, &small());
        assert_eq!(fill(&mut packing, &small()), 1, "one may run always");
    }

    #[test]
    fn what_nobody_can_measure_has_its_device_to_itself() {
        let mut packing = Packing::new(&[8], true);
        assert_eq!(fill(&mut packing, &Shape::Alone), 1);
        packing.measured(0, &Shape::Alone, seen(GIB));
        assert_eq!(fill(&mut packing, &Shape::Alone), 1);
        packing.ended(0, &Shape::Alone);
        packing.started(0, small());
        packing.measured(0, &small(), seen(GIB));
        assert!(!packing.may_start(0, &Shape::Alone) && packing.may_start(0, &small()));
        // A trial that never tells what it needs stays alone, too.
        packing.ended(0, &small());
        assert_eq!(fill(&mut packing, &large()), 1);
    }

    #[test]
    fn a_measurement_serves_all_devices_and_a_lost_one_gets_nothing() {
        let mut packing = Packing::new(&[8, 8], true);
        packing.started(0, small());
        assert_eq!(packing.wanted(|_| true), 1, "the other device is free");
        packing.started(1, small());
        packing.measured(0, &small(), seen(4 * GIB));
        // Of the second one the size is not known yet.
        assert!(packing.may_start(0, &small()) && !packing.may_start(1, &small()));
        packing.measured(1, &small(), seen(4 * GIB));
        assert!(packing.may_start(1, &small()));
        assert_eq!((packing.wanted(|device| device == 1), packing.wanted(|_| false)), (1, 0));
    }

    #[test]
    fn a_fixed_number_of_slots_is_filled_whatever_trials_need() {
        let mut packing = Packing::new(&[2, 1], false);
        assert_eq!(packing.wanted(|_| true), 3);
        packing.started(0, Shape::Alone);
        packing.measured(0, &small(), seen(23 * GIB));
        assert_eq!((packing.wanted(|_| true), packing.wanted(|device| device == 0)), (2, 1));
        assert!(packing.may_start(0, &large()));
        packing.started(0, large());
        assert!(!packing.may_start(0, &small()) && !packing.out_of_memory(0));
    }

    #[test]
    fn the_shape_is_what_decides_memory() {
        let dataset = crate::catalogue::find("PACS").unwrap();
        let settings = Settings::reference(dataset, Backbone::ResNet18);
        let point = FinetunePoint {
            held_out: vec!["photo".to_owned()],
            dropout: 0.5,
            lr: 1e-3,
            weight_decay: 1e-4,
            head_lr_factor: 1.0,
            seed: 0,
            split_seed: 0,
        };
        let of = |change: fn(&mut Settings), point: &FinetunePoint| {
            let mut settings = settings.clone();
            change(&mut settings);
            shape(&TrialSpec { work: Work::Finetune(settings), point: point.into(), combination: None })
        };
        let plain = of(|_| {}, &point);
        let other = FinetunePoint { seed: 1, lr: 1e-2, held_out: vec!["sketch".to_owned()], ..point.clone() };
        assert_eq!(of(|settings| settings.steps = 5, &other), plain);
        let changes: [fn(&mut Settings); 6] = [
            |settings| settings.backbone = Backbone::ResNet50V2,
            |settings| settings.batch_per_domain = 8,
            |settings| settings.pixels = 64,
            |settings| settings.precision = Precision::Bf16,
            |settings| settings.average = Some(Average { from: 1, every: AverageEvery::Steps(1) }),
            |settings| settings.micro_batch = Some(MicroBatch::Images(8)),
        ];
        for change in changes {
            assert_ne!(of(change, &point), plain);
        }
        // One domain less makes smaller batches.
        let pair = FinetunePoint { held_out: vec!["photo".to_owned(), "sketch".to_owned()], ..point.clone() };
        assert_ne!(of(|_| {}, &pair), plain);
        assert_eq!(of(|settings| settings.micro_batch = Some(MicroBatch::Auto), &point), Shape::Alone);
    }

    proptest! {
        /// Whatever happens, what runs on a device fits into it by what was measured, unless it is one trial alone; and one trial may always
        /// start on a device that is free.
        #[test]
        fn what_shares_a_device_fits(steps in prop::collection::vec((0..5_u8, 0..2_usize, 0..3_usize, 1..30_u64), 1..200)) {
            let shapes = [small(), large(), Shape::Alone];
            let mut packing = Packing::new(&[6, 3], true);
            for (what, device, which, gib) in steps {
                let shape = &shapes[which];
                match what {
                    0 | 1 => if packing.may_start(device, shape) { packing.started(device, shape.clone()) },
                    2 => packing.ended(device, shape),
                    3 => if packing.devices[device].running.contains(shape) && !packing.needs.contains_key(shape) {
                        packing.measured(device, shape, seen(gib * GIB / 2));
                    },
                    _ => { packing.out_of_memory(device); }
                }
                for (index, device) in packing.devices.iter().enumerate() {
                    let need = |shape| packing.needs.get(shape).map_or(24 * GIB, |need| need.peak + need.beside);
                    let together: u64 = device.running.iter().map(need).sum();
                    prop_assert!(device.running.len() <= device.slots);
                    prop_assert!(device.running.len() < 2 || together as f64 <= 0.9 * (24 * GIB) as f64);
                    prop_assert!(!device.running.is_empty() || packing.may_start(index, shape));
                }
            }
        }
    }
}
