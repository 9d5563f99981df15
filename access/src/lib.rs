//! Who may reach a coordinator, and how: its identity (a CA and tokens), the access files that programs find it by, and both ends of a
//! connection. A token is sent only to a server that proves the CA of the token's own file, so neither the network nor another user of the
//! machine learns one.

mod address;
mod certificates;
mod error;
mod file;
mod identity;
mod names;
mod private;
mod server;
mod state;
mod target;
mod token;

pub use address::{Address, Place};
pub use error::AccessError;
pub use file::AccessFile;
pub use identity::Identity;
pub use names::{DEFAULT_COORDINATOR, SERVER_NAME};
pub use server::{TlsServer, TlsStream};
pub use state::{Published, State};
pub use target::{Bearer, DialError, Link, Target};
pub use token::{Token, TokenDigest};
