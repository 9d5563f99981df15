//! The slots of a worker: which of them are free, which have a device that does not work any more, and the trainer that waits in each.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::process::{Child, Command};

use crate::launcher::Slot;
use crate::process::waiting::WaitingTrainer;
use crate::state_dir::StateDir;

/// All slots of a worker.
#[derive(Debug)]
pub(crate) struct Slots {
    all: Vec<Slot>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    free: BTreeSet<usize>,
    /// Devices that do not work any more, and why.
    lost: BTreeMap<String, String>,
    /// The trainers that wait for a slot's next trial.
    waiting: BTreeMap<usize, WaitingTrainer>,
    /// The agent ends: no trainer waits any more.
    closed: bool,
}

impl Slots {
    pub(crate) fn new(all: Vec<Slot>) -> Arc<Self> {
        let free = (0..all.len()).collect();
        let state = State { free, lost: BTreeMap::new(), waiting: BTreeMap::new(), closed: false };
        Arc::new(Self { all, state: Mutex::new(state) })
    }

    /// How many attempts could begin now.
    pub(crate) fn free(&self) -> usize {
        self.lock().free.len()
    }

    /// The first that is free.
    pub(crate) fn take(self: &Arc<Self>) -> Option<TakenSlot> {
        let index = self.lock().free.pop_first()?;
        Some(TakenSlot { slots: Arc::clone(self), index })
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

/// A slot while an attempt has it. It is free again however the attempt ends, unless its device is lost.
#[derive(Debug)]
pub(crate) struct TakenSlot {
    slots: Arc<Slots>,
    index: usize,
}

impl TakenSlot {
    /// What it is.
    pub(crate) fn slot(&self) -> &Slot {
        &self.slots.all[self.index]
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
        self.slots.all.iter().any(|slot| !lost.contains_key(&slot.device))
    }
}

impl Drop for TakenSlot {
    fn drop(&mut self) {
        let mut state = self.slots.lock();
        if !state.lost.contains_key(&self.slot().device) {
            state.free.insert(self.index);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::launcher::{DeviceSelection, plan};
    use crate::process::waiting::tests::{cat, ended, state_dir};

    impl TakenSlot {
        /// The process that waits in it.
        fn waits(&self) -> Option<i32> {
            self.slots.lock().waiting.get(&self.index).map(WaitingTrainer::pid)
        }
    }

    fn two_gpus(count: usize) -> Arc<Slots> {
        let gpus = ["GPU-a", "GPU-b"].map(str::to_owned);
        Slots::new(plan(&DeviceSelection::All, &gpus, Some(count)).unwrap())
    }

    #[test]
    fn a_lost_device_takes_its_slots_along() {
        let slots = two_gpus(4);
        let [first, second, third] = [(); 3].map(|()| slots.take().unwrap());
        assert_eq!((slots.free(), first.slot().device.as_str()), (1, "cuda:0"));
        assert_eq!((second.slot().device.as_str(), third.slot().device.as_str()), ("cuda:1", "cuda:0"));
        assert!(second.lose_device("it fell off the bus"));
        // Its other slot was free.
        assert_eq!((slots.free(), slots.all_lost()), (0, None));
        drop((first, second));
        assert_eq!(slots.free(), 1);
        assert!(!third.lose_device("it has errors"));
        drop(third);
        assert_eq!((slots.free(), slots.take().is_none()), (0, true));
        let lost = slots.all_lost().unwrap();
        assert_eq!(lost, "cuda:0: it has errors; cuda:1: it fell off the bus");
    }
    #[tokio::test]
    async fn one_trainer_waits_in_each_slot_until_its_device_is_lost_or_the_agent_ends() {
        let folder = tempfile::tempdir().unwrap();
        let (slots, state_dir) = (two_gpus(3), state_dir(&folder));
        let [first, other, beside] = [(); 3].map(|()| slots.take().unwrap());
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
}
