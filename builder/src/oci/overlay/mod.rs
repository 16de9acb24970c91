//! Trees as overlayfs stacks them: the marks in them, what a stack shows, and one tree made of a stack. Not: mounts.

pub mod marks;
pub mod view;
pub mod merge;
