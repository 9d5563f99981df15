//! Runs one command for an agent, so that nothing of it outlives the command or the agent.

mod command;
mod descendants;

pub(crate) use command::UNREAD_VARIABLE;
pub use command::run;
