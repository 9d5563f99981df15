//! The slots of a worker: which of them are free, which have a device that does not work any more, and the trainer that waits in each.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sortie_core::packing::{DeviceMemory, Packing, Shape};
use tokio::process::{Child, Command};
use tokio::sync::watch;

use crate::launcher::{Slot, SlotPlan};
use crate::process::waiting::WaitingTrainer;
use crate::state_dir::StateDir;

/// All slots of a worker.
#[derive(Debug)]
pub(crate) struct Slots {
    all: Vec<Slot>,
    /// Of each slot, its device's place among the worker's devices.
    devices: Vec<usize>,
    by_memory: bool,
    state: Mutex<State>,
    /// Sends whenever another trial may be able to start.
    changed: watch::Sender<()>,
}

#[derive(Debug)]
struct State {
    free: BTreeSet<usize>,
    /// Decides which of them may be used.
    packing: Packing,
    /// How many trials wait for a slot.
    pending: usize,
    /// Devices that do not work any more, and why.
    lost: BTreeMap<String, String>,
    /// The trainers that wait for a slot's next trial.
    waiting: BTreeMap<usize, WaitingTrainer>,
    /// The agent ends: no trainer waits any more.
    closed: bool,
}

impl Slots {
    pub(crate) fn new(plan: SlotPlan) -> Arc<Self> {
        let SlotPlan { slots: all, by_memory } = plan;
        let mut names: Vec<&str> = Vec::new();
        let mut counts: Vec<usize> = Vec::new();
        let mut devices = Vec::with_capacity(all.len());
        for slot in &all {
            let device = names.iter().position(|name| *name == slot.device).unwrap_or_else(|| {
                names.push(&slot.device);
                counts.push(0);
                counts.len() - 1
            });
            counts[device] += 1;
            devices.push(device);
        }
        let state = State {
            free: (0..all.len()).collect(),
            packing: Packing::new(&counts, by_memory),
            pending: 0,
            lost: BTreeMap::new(),
            waiting: BTreeMap::new(),
            closed: false,
        };
        Arc::new(Self { all, devices, by_memory, state: Mutex::new(state), changed: watch::Sender::new(()) })
    }

    /// How many trials to ask for now: none while one waits for its slot.
    pub(crate) fn wanted(&self) -> usize {
        let state = self.lock();
        if state.pending > 0 {
            return 0;
        }
        let works = |device| {
            let mut slots = self.all.iter().zip(&self.devices).filter(|(_, own)| **own == device);
            slots.any(|(slot, _)| !state.lost.contains_key(&slot.device))
        };
        state.packing.wanted(works)
    }

    /// Receives whenever [`Slots::wanted`] may have grown.
    pub(crate) fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    /// Whether a trial may have to wait for a slot.
    pub(crate) fn may_wait(&self) -> bool {
        self.by_memory
    }

    /// A free one on the device where the fewest trials run, of those on which a trial of this shape may start now.
    pub(crate) fn take(self: &Arc<Self>, shape: &Shape) -> Option<TakenSlot> {
        let mut state = self.lock();
        let State { free, packing, .. } = &mut *state;
        let device = |index: &usize| self.devices[*index];
        let fit = free.iter().filter(|index| packing.may_start(device(index), shape));
        let index = *fit.min_by_key(|index| (packing.running(device(index)), **index))?;
        free.remove(&index);
        packing.started(self.devices[index], shape.clone());
        Some(TakenSlot { slots: Arc::clone(self), index, shape: shape.clone() })
    }

    /// One that a trial of this shape has to wait for. Nothing more is asked for meanwhile.
    pub(crate) fn pending(self: &Arc<Self>, shape: Shape) -> PendingSlot {
        self.lock().pending += 1;
        PendingSlot { slots: Arc::clone(self), shape }
    }

    /// Why no slot can be used any more; none while one can.
    pub(crate) fn all_lost(&self) -> Option<String> {
        let state = self.lock();
        let lost = |slot: &Slot| state.lost.contains_key(&slot.device);
        let reasons = || state.lost.iter().map(|(device, reason)| format!("{device}: {reason}"));
        self.all.iter().all(lost).then(|| reasons().collect::<Vec<_>>().join("; "))
    }

    /// Ends the trainers that wait. None is started any more.
    pub(crate) fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        state.waiting.clear();
    }

    /// A panic of another holder cannot leave it half changed in a way that matters: a slot is at worst not used.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A slot that a trial waits for, until this is dropped.
#[derive(Debug)]
pub(crate) struct PendingSlot {
    slots: Arc<Slots>,
    shape: Shape,
}

impl PendingSlot {
    /// Waits for it. None if no device works any more.
    pub(crate) async fn taken(self) -> Option<TakenSlot> {
        let mut changes = self.slots.changes();
        loop {
            if let Some(taken) = self.slots.take(&self.shape) {
                return Some(taken);
            }
            if self.slots.all_lost().is_some() {
                return None;
            }
            // The sender lives as long as the slots.
            changes.changed().await.ok()?;
        }
    }
}

impl Drop for PendingSlot {
    fn drop(&mut self) {
        self.slots.lock().pending -= 1;
        self.slots.changed.send_replace(());
    }
}

/// A slot while an attempt has it. It is free again however the attempt ends, unless its device is lost.
#[derive(Debug)]
pub(crate) struct TakenSlot {
    slots: Arc<Slots>,
    index: usize,
    /// That of its trial.
    shape: Shape,
}

impl TakenSlot {
    /// What it is.
    pub(crate) fn slot(&self) -> &Slot {
        &self.slots.all[self.index]
    }

    fn device(&self) -> usize {
        self.slots.devices[self.index]
    }

    /// Its trial told how much memory it needs so far.
    pub(crate) fn measured(&self, memory: DeviceMemory) {
        self.slots.lock().packing.measured(self.device(), &self.shape, memory);
        self.slots.changed.send_replace(());
    }

    /// Its device's memory was not enough. Returns whether other trials shared it, so that fewer do from now on.
    pub(crate) fn out_of_memory(&self) -> bool {
        self.slots.lock().packing.out_of_memory(self.device())
    }

    /// The process that waits in it, if it was started by such a command and still runs. Any other that waits there is ended.
    pub(crate) fn take_waiting(&self, command: &Command) -> Option<Child> {
        let waiting = self.slots.lock().waiting.remove(&self.index)?;
        waiting.into_process(command)
    }

    /// Starts the trainer that waits for its next trial, unless one does.
    pub(crate) fn start_waiting(&self, command: Command, state_dir: &StateDir) {
        let mut state = self.slots.lock();
        let is_lost = state.lost.contains_key(&self.slot().device);
        if state.closed || is_lost || state.waiting.contains_key(&self.index) {
            return;
        }
        if let Some(waiting) = WaitingTrainer::start(command, state_dir) {
            state.waiting.insert(self.index, waiting);
        }
    }

    /// Its device does not work any more: no attempt gets it again, and the trainers that wait for it end. Returns whether slots with other
    /// devices are left.
    pub(crate) fn lose_device(&self, reason: &str) -> bool {
        let mut state = self.slots.lock();
        state.lost.insert(self.slot().device.clone(), reason.to_owned());
        let State { free, lost, waiting, .. } = &mut *state;
        let works = |index: &usize| !lost.contains_key(&self.slots.all[*index].device);
        free.retain(works);
        waiting.retain(|index, _| works(index));
        self.slots.changed.send_replace(());
        self.slots.all.iter().any(|slot| !lost.contains_key(&slot.device))
    }
}

impl Drop for TakenSlot {
    fn drop(&mut self) {
        let mut state = self.slots.lock();
        state.packing.ended(self.device(), &self.shape);
        if !state.lost.contains_key(&self.slot().device) {
            state.free.insert(self.index);
        }
        drop(state);
        self.slots.changed.send_replace(());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::launcher::{DeviceSelection, SlotCount, plan};
    use crate::process::waiting::tests::{cat, ended, state_dir};

    impl TakenSlot {
        /// The process that waits in it.
        fn waits(&self) -> Option<i32> {
            self.slots.lock().waiting.get(&self.index).map(WaitingTrainer::pid)
        }
    }

    fn two_gpus(count: SlotCount) -> Arc<Slots> {
        let gpus = ["GPU-a", "GPU-b"].map(str::to_owned);
        Slots::new(plan(&DeviceSelection::All, &gpus, count, 8).unwrap())
    }

    fn shape(name: &str) -> Shape {
        Shape::Of(name.to_owned())
    }

    #[test]
    fn a_lost_device_takes_its_slots_along() {
        let slots = two_gpus(SlotCount::Trials(4));
        let take = || slots.take(&Shape::Alone);
        let [first, second, third] = [(); 3].map(|()| take().unwrap());
        assert_eq!((slots.wanted(), first.slot().device.as_str()), (1, "cuda:0"));
        assert_eq!((second.slot().device.as_str(), third.slot().device.as_str()), ("cuda:1", "cuda:0"));
        assert!(second.lose_device("it fell off the bus"));
        // Its other slot was free.
        assert_eq!((slots.wanted(), slots.all_lost()), (0, None));
        drop((first, second));
        assert_eq!(slots.wanted(), 1);
        assert!(!third.lose_device("it has errors"));
        drop(third);
        assert_eq!((slots.wanted(), take().is_none()), (0, true));
        let lost = slots.all_lost().unwrap();
        assert_eq!(lost, "cuda:0: it has errors; cuda:1: it fell off the bus");
    }
    #[tokio::test]
    async fn one_trainer_waits_in_each_slot_until_its_device_is_lost_or_the_agent_ends() {
        let folder = tempfile::tempdir().unwrap();
        let (slots, state_dir) = (two_gpus(SlotCount::Trials(3)), state_dir(&folder));
        let [first, other, beside] = [(); 3].map(|()| slots.take(&Shape::Alone).unwrap());
        assert!(first.take_waiting(&cat("a")).is_none());
        first.start_waiting(cat("a"), &state_dir);
        let waits = first.waits();
        first.start_waiting(cat("a"), &state_dir);
        assert!(waits.is_some() && first.waits() == waits && other.waits().is_none());
        let taken = first.take_waiting(&cat("a")).unwrap();
        assert_eq!((taken.id().map(u32::cast_signed), first.waits()), (waits, None));

        for slot in [&first, &other, &beside] {
            slot.start_waiting(cat("a"), &state_dir);
        }
        let [of_first, of_other, of_beside] = [&first, &other, &beside].map(|slot| slot.waits().unwrap());
        assert!(first.lose_device("it has errors"));
        ended(of_first).await;
        ended(of_beside).await;
        // An attempt that runs there still may not start another.
        beside.start_waiting(cat("a"), &state_dir);
        assert_eq!((first.waits(), beside.waits(), other.waits()), (None, None, Some(of_other)));

        slots.close();
        ended(of_other).await;
        other.start_waiting(cat("a"), &state_dir);
        assert_eq!(other.waits(), None);
    }
    #[tokio::test]
    async fn a_trial_waits_until_what_it_needs_is_free() {
        let (slots, gib) = (two_gpus(SlotCount::Auto), 1 << 30);
        let (small, large) = (shape("small"), shape("large"));
        let first = slots.take(&small).unwrap();
        let second = slots.take(&small).unwrap();
        assert_eq!((first.slot().device.as_str(), second.slot().device.as_str()), ("cuda:0", "cuda:1"));
        assert!(slots.take(&small).is_none() && slots.wanted() == 0);
        let mut changes = slots.changes();
        first.measured(DeviceMemory { peak: gib, held: gib, free: 22 * gib, total: 24 * gib });
        assert!(changes.has_changed().unwrap());
        changes.mark_unchanged();
        assert_eq!(slots.wanted(), 1);
        let third = slots.take(&small).unwrap();
        assert_eq!(third.slot().device, "cuda:0");

        // One of another shape needs a device for itself.
        let pending = slots.pending(large.clone());
        assert_eq!(slots.wanted(), 0, "nothing more is asked for meanwhile");
        let waits = tokio::spawn(async { pending.taken().await.map(|taken| taken.slot().device.clone()) });
        drop(first);
        tokio::task::yield_now().await;
        assert!(!waits.is_finished());
        drop(second);
        assert_eq!(waits.await.unwrap().unwrap(), "cuda:1");
        assert!(changes.has_changed().unwrap() && slots.wanted() == 1);

        // Where no device works any more, nobody waits.
        let other = slots.take(&large).unwrap();
        let waits = tokio::spawn(slots.pending(large).taken());
        tokio::task::yield_now().await;
        assert!(!waits.is_finished());
        assert!(third.lose_device("gone") && !other.lose_device("gone"));
        assert!(waits.await.unwrap().is_none());
    }
}
