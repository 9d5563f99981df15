//! The version of the protocol, and the size of messages.

/// Raised whenever an older peer would misunderstand a newer one. Both sides refuse any other number.
pub const API_VERSION: u32 = 12;

/// The largest message that either side accepts, in bytes. Batches and chunks are kept far below it.
pub const MESSAGE_BYTES_MAX: usize = 16 << 20;

/// The most trials that one request names.
pub const TRIALS_NAMED_MAX: usize = 1_000;
