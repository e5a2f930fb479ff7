//! Load on a server: the roles of child processes that produce it, and the steps in which scenarios use them.
//!
//! [`child`] starts a process that plays [`submit`], [`work`], [`paced`] or [`echo`]; [`parent`] is the other end of
//! its pipes.

pub mod child;
pub mod echo;
pub mod in_turns;
pub mod paced;
pub mod parent;
pub mod payload;
pub mod steps;
pub mod submit;
pub mod work;
