//! The rules of the source: which module may import which, where files are made, how threads are started, what comments
//! may cite, and how large a function, a file and a struct may be.

mod architecture;
mod citations;
mod creation;
mod limits;
mod source;
mod threads;
