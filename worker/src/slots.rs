//! The slots of a worker: which of them are free, and which have a device that does not work any more.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::launcher::Slot;

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
}

impl Slots {
    pub(crate) fn new(all: Vec<Slot>) -> Arc<Self> {
        let state = State { free: (0..all.len()).collect(), lost: BTreeMap::new() };
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

    /// Which of the worker's slots it is.
    pub(crate) fn index(&self) -> usize {
        self.index
    }

    /// Its device does not work any more: no attempt gets it again. Returns whether slots with other devices are left.
    pub(crate) fn lose_device(&self, reason: &str) -> bool {
        let mut state = self.slots.lock();
        state.lost.insert(self.slot().device.clone(), reason.to_owned());
        let State { free, lost } = &mut *state;
        free.retain(|index| !lost.contains_key(&self.slots.all[*index].device));
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

    #[test]
    fn a_lost_device_takes_its_slots_along() {
        let gpus = ["GPU-a", "GPU-b"].map(str::to_owned);
        let slots = Slots::new(plan(&DeviceSelection::All, &gpus, Some(4)).unwrap());
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
}
