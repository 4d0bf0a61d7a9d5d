//! Which results are in an archive.

use serde::{Deserialize, Serialize};

/// An archive that is complete on this machine, from when on its content is the same in every try to send it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Packed {
    /// Its name on the Server.
    pub archive: String,
    /// Its number of bytes.
    pub size: u64,
    pub members: Vec<Member>,
}

/// A result in an archive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Its name in there, which it would have on the Server.
    pub file: String,
    pub size: u64,
}
