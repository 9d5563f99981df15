//! Files of a crate must not need each other in a circle, so that each can be read after those that it needs.
//!
//! `mod.rs` and `lib.rs` are tables of contents: a path leads through them to the file that defines what it
//! names. Only paths count. A call of a method needs no path, so it is not seen.

mod dependencies;
mod graph;
mod refuse;
mod resolve;
mod syntax;
#[cfg(test)]
mod tests;
mod tree;

pub use refuse::refuse;
