//! What several targets need.

mod calls;
mod checks;

pub use calls::{Calls, MESSAGES_MAX};
pub use checks::{is_one_line, text_of};
