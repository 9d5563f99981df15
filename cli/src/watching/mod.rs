//! Watching sweeps: the polling loop, what the coordinator's answers say about progress, and how that is shown.

mod bar;
mod poll;
mod progress;
mod submission;
mod until_over;

pub use bar::bar;
pub use poll::{INTERVAL, Watcher, poll};
pub use progress::{ended, eta, eta_observed, is_over, is_stopped, line, time_left, total};
pub use submission::{follow_submission, lacking_line};
pub use until_over::until_over;
