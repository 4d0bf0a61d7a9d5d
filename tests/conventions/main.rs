//! The rules of the source: which module may import which, what comments may cite, and how large a function, a file and
//! a struct may be.

mod architecture;
mod citations;
mod limits;
mod source;
