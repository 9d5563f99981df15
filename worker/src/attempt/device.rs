//! What an attempt's outcome says of the device that it had, and the device's use of the outcome.

use sortie_core::job::{ErrorClass, Outcome};

use crate::attempt::ending::one_line;
use crate::slots::TakenSlot;

/// The outcome of an attempt, as far as its device is no cause of it. A device that does not work any more, and one that too many trials
/// shared, are used accordingly from now on.
pub(crate) fn without_faults_of(taken: &TakenSlot, outcome: Outcome) -> Outcome {
    let device = &taken.slot().device;
    match outcome {
        // While the worker has other devices, nothing is wrong with the machine as a whole.
        Outcome::Failed { class: ErrorClass::Device, message } if !taken.slot().visible.is_empty() => {
            tracing::error!(%device, reason = %message, "this device gets no more trials until the worker is started again");
            let class = if taken.lose_device(&message) { ErrorClass::Preempted } else { ErrorClass::Device };
            Outcome::Failed { class, message: format!("{device} does not work any more: {message}") }
        }
        // Alone it may run there.
        Outcome::Failed { class: ErrorClass::OutOfMemory, message } if taken.out_of_memory() => {
            tracing::warn!(%device, reason = %message, "fewer trials share this device from now on");
            let message = format!("{device} was shared by too many trials, and is by fewer now: {message}");
            one_line(Outcome::Failed { class: ErrorClass::Preempted, message })
        }
        other => other,
    }
}
