//! A demo Server: the tests' fake OpenAaaS Server with a few calls for people, and a client for them.
//!
//! ```text
//! cargo run --example demo-server -- serve --port 8080
//! agent-core register --token rt_demo && agent-core run
//! cargo run --example demo-server -- submit --server http://127.0.0.1:8080 --prompt "Count" --input a.csv --wait 60
//! ```
//!
//! It keeps everything in memory and checks no passwords, so it listens on 127.0.0.1 only.

mod client;
mod person;
#[path = "../support/server/mod.rs"]
mod server;

use clap::{Args, Parser, Subcommand};
use server::{FakeServer, KeyHeaders, Options, RateLimit};
use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::thread;

#[derive(Parser)]
#[command(name = "demo-server", about = "A Server to try agent-core with")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the demo Server until it is killed
    Serve(Serve),
    /// Submit a task, wait for its end and show the results
    Submit(Submit),
    /// List the tasks
    Tasks(Server),
    /// Cancel a task
    Cancel(Cancel),
    /// Make another registration token, since each works once
    Token(Server),
}

#[derive(Args)]
struct Serve {
    /// The port on 127.0.0.1; 0 takes a free one
    #[arg(long, default_value_t = 0)]
    port: u16,
    /// The registration token
    #[arg(long, default_value = "rt_demo")]
    token: String,
}

#[derive(Args)]
struct Server {
    /// The demo Server's address
    #[arg(long, value_name = "URL")]
    server: String,
}

#[derive(Args)]
struct Submit {
    #[command(flatten)]
    at: Server,
    /// What is to be done
    #[arg(long, value_name = "TEXT")]
    prompt: String,
    /// What the result should look like
    #[arg(long, value_name = "TEXT")]
    output_prompt: Option<String>,
    /// An input file; may be given more than once
    #[arg(long = "input", value_name = "FILE")]
    inputs: Vec<PathBuf>,
    /// Wait this long for the end, and show the results; without it, only the task's id is shown
    #[arg(long, value_name = "SECONDS")]
    wait: Option<u64>,
    /// Write the result files into this folder
    #[arg(long, value_name = "DIR", requires = "wait")]
    out: Option<PathBuf>,
}

#[derive(Args)]
struct Cancel {
    #[command(flatten)]
    at: Server,
    /// The task's id
    task_id: String,
}

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Serve(serve) => run_server(&serve),
        Command::Submit(submit) => client::submit(&submit),
        Command::Tasks(at) => client::tasks(&at.server),
        Command::Cancel(cancel) => client::cancel(&cancel.at.server, &cancel.task_id),
        Command::Token(at) => client::token(&at.server),
    };
    done.unwrap_or_else(|error| {
        eprintln!("demo-server: {error}");
        ExitCode::FAILURE
    })
}

fn run_server(serve: &Serve) -> Result<ExitCode, Box<dyn Error>> {
    let server = FakeServer::start_with(Options {
        port: serve.port,
        key_headers: KeyHeaders::Either,
        rate_limit: Some(RateLimit::real()),
        keep_requests: 1000,
        extra_routes: Some(Arc::new(person::answer)),
        ..Options::default()
    });
    // The token registers the service that gets the submitted tasks.
    let (service_id, _) = server.service();
    server.add_token_for(&serve.token, &service_id);
    println!("listening on {}", server.url());
    println!("registration token: {}", serve.token);
    loop {
        thread::park();
    }
}
