//! Runs one command for an agent, so that nothing of it outlives the command or the agent.

mod command;
mod descendants;

pub use command::run;
