//! The Server: its wire, a client with one method per endpoint, and the limits and pauses of calls.

mod answer;
mod authorities;
pub mod budget;
mod client;
mod connection;
mod connector;
mod error;
mod limits;
mod list;
mod media_type;
mod no_proxy;
mod offer;
pub mod patience;
pub mod probe;
#[cfg(test)]
mod properties;
pub mod protocol;
pub mod proxy;
mod resolver;
pub mod retry;
mod upload;

pub use authorities::Authorities;
pub use budget::Purpose;
pub use client::{Client, register};
pub use connection::REQUEST_TIMEOUT;
pub use error::{ClientError, Step};
pub use media_type::known_type;
pub use offer::{Offer, PollAnswer};
pub use patience::{Failure, Item, Verdict, Way};
pub use protocol::{
    AgentStatus, CompleteRequest, EncodedReport, FinalStatus, InputFile, LeftOut, Load, Output, Registration, Task,
};
pub use resolver::address_on_this_machine;
pub use retry::Backoff;
pub use upload::Upload;
