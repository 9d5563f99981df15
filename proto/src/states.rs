//! States and actions: wire to core and core to wire.

use sortie_core::job::StateName;
use sortie_core::status::{SweepState, UserAction, WorkerState};

use crate::{WireError, v1};

/// Converts between an enum of core and the one of the wire, whose names are the same.
macro_rules! states {
    ($($core:ident <=> $wire:ident { $($name:ident),+ })+) => {$(
        impl From<$core> for v1::$wire {
            fn from(state: $core) -> Self {
                match state {
                    $($core::$name => Self::$name,)+
                }
            }
        }

        impl v1::$wire {
            /// The number of a state, as a message has it.
            pub fn number(state: $core) -> i32 {
                Self::from(state).into()
            }

            /// The state of this number, as a message has it.
            ///
            /// # Errors
            /// [`WireError`] for no state and for one of a later version.
            pub fn read(field: &'static str, number: i32) -> Result<$core, WireError> {
                match Self::try_from(number) {
                    Ok(Self::Unspecified) => Err(WireError::Missing(field)),
                    $(Ok(Self::$name) => Ok($core::$name),)+
                    Err(_) => {
                        Err(WireError::Value { field, reason: format!("{number} is not known to this version") })
                    }
                }
            }

            /// The same of a field that may be absent.
            ///
            /// # Errors
            /// [`WireError`] for a state of a later version.
            pub fn read_if_any(field: &'static str, number: i32) -> Result<Option<$core>, WireError> {
                if number == 0 { Ok(None) } else { Self::read(field, number).map(Some) }
            }
        }
    )+};
}

states! {
    StateName <=> TrialState { Blocked, Queued, Running, Succeeded, Diverged, Failed, Cancelled }
    SweepState <=> SweepState { Expanding, Open, Paused, Cancelled, Archived, Outdated }
    UserAction <=> ControlAction { Pause, Resume, Cancel, Retry, Priority, Rename, Archive, Unarchive }
    WorkerState <=> WorkerState { Working, Idle, Silent, Quarantined, Left }
}
