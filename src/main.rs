//! agent-core works on the tasks of an OpenAaaS Server beside the data.

mod client;
mod config;
mod outputs;
mod platform;
mod docker;
mod instance;
mod logging;
mod process;
mod protocol;
mod record;
mod retry;
mod workspace;

fn main() {}
