//! The one task that writes, in reading order: its loop, the requests that it serves together, its transactions, the commands that have
//! one of their own, and its work in the background.

mod access_commands;
mod background;
mod batch_executor;
mod change;
mod command;
mod deeds;
mod serving;
mod step_watch;
mod task;
mod transactions;
mod waiting_claims;
mod writer_task;

pub(crate) use access_commands::{AddToken, KnowTokens, NoteDeed, RevokeToken, RotateToken};
pub(crate) use batch_executor::BatchExecutor;
pub(crate) use command::{Act, Command, Delete, Grace, Note, Register, Submit};
pub(crate) use serving::returns;
pub(crate) use writer_task::{Message, Writer};
