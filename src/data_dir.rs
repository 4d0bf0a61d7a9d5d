//! The data_dir: who holds it, and who may read it.

pub mod instance;
pub mod permissions;
