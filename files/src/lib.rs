//! New files as everybody expects them: whole or not there at all, and readable by whom the umask says. The way to write a file into a
//! folder that is shared.

mod new_file;

pub use new_file::{NewFile, replace};
