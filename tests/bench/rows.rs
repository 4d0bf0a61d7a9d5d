//! The list of what is measured. Each row is a line, or a few, of the table.

mod builds;
mod default_settings;
mod gaps;
mod gigabyte;
mod idle;
pub mod makespan;
mod outputs;
mod queue;
mod requests;
mod restart;
mod sleepers;

use crate::figure::Figure;
use crate::run::Options;

/// Something that is measured by itself.
pub struct Row {
    /// For `--only`.
    pub name: &'static str,
    pub about: &'static str,
    /// Whether a quick run without `--only` has it.
    pub quick: bool,
    pub measure: fn(&Options) -> Vec<Figure>,
}

/// All rows, in the order of the table.
pub const ROWS: &[Row] = &[
    Row {
        name: "makespan",
        about: "200 tasks with one output each, capacity 8, beside `xargs -P 8 docker run --rm`",
        quick: true,
        measure: makespan::row,
    },
    Row {
        name: "default",
        about: "20 tasks with one output each at default settings but capacity 4, a Server with the real limit",
        quick: false,
        measure: default_settings::row,
    },
    Row {
        name: "requests",
        about: "calls to the Server for a task while others wait in the queue, without heartbeats",
        quick: true,
        measure: requests::row,
    },
    Row {
        name: "start-gap",
        about: "from the answer to `accept` to the container's first instruction, beside bare docker's start",
        quick: true,
        measure: gaps::start_row,
    },
    Row {
        name: "end-gap",
        about: "from the container's last instruction to the arrival of `complete`, beside bare docker's exit",
        quick: true,
        measure: gaps::end_row,
    },
    Row { name: "idle", about: "an agent with nothing to do at default settings", quick: false, measure: idle::row },
    Row { name: "sleepers", about: "capacity 64, with 64 containers that sleep", quick: false, measure: sleepers::row },
    Row {
        name: "gigabyte",
        about: "a task with an input and an output of 1 GiB, beside curl on the same Server",
        quick: true,
        measure: gigabyte::row,
    },
    Row {
        name: "outputs-400",
        about: "a task with 400 outputs and `outputs.archive`, a Server with the real limit",
        quick: false,
        measure: outputs::limited_row,
    },
    Row {
        name: "outputs-10k",
        about: "a task with 10,000 small outputs, without limits",
        quick: false,
        measure: outputs::many_row,
    },
    Row {
        name: "queue-5k",
        about: "5,000 queued tasks, capacity 32, docker replaced by a stand-in",
        quick: true,
        measure: queue::row,
    },
    Row { name: "binary", about: "the release binary, and its clean build", quick: false, measure: builds::binary_row },
    Row { name: "demo", about: "scripts/demo without anything built", quick: false, measure: builds::demo_row },
    Row {
        name: "restart-10k",
        about: "a start with 10,000 settled records, beside one with none",
        quick: true,
        measure: restart::row,
    },
];

/// The names of all rows.
pub fn names() -> Vec<&'static str> {
    ROWS.iter().map(|row| row.name).collect()
}
