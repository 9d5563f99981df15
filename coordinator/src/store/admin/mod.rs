//! What users do, one transaction for each action or page, and what follows from it in the background: adding a sweep's trials,
//! letting combinations start, and removing what is deleted.

mod combinations;
mod pins;
mod removal;
mod submit;
mod tokens;
mod trials;

pub(crate) use combinations::settle;
pub(crate) use pins::{PinDone, PinRequest, pin};
pub(crate) use removal::{delete, remove};
pub(crate) use submit::{Chunk, check_room, expand, grown_row, new_row, question, store_sweep};
pub(crate) use tokens::{add_token, know_tokens, revoke_token, rotate_token};
pub(crate) use trials::{TrialsDone, TrialsRequest, WhichTrials, act, act_on_trials};
