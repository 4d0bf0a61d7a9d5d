//! A fake OpenAaaS Server: real HTTP on 127.0.0.1, the behaviour that PROTOCOL describes, and faults on request.
//!
//! It uses raw JSON and none of the program's types, so that an accidental change of the wire format fails a test.
//! [`FakeServer`] is the running server, [`Control`] a handle to it that closures can keep.

// Each target that includes this uses the part that it needs.
#![allow(dead_code, unused_imports)]

mod connection;
mod control;
mod faults;
mod http;
mod listener;
mod multipart;
mod options;
mod rate;
mod record;
mod routes;
mod state;
mod stream;
mod task;
mod tls;

pub use control::Control;
pub use faults::{Fault, FaultId, Match, Moment};
pub use http::{Response, http_date};
pub use options::{EmptyPoll, ExtraRoutes, KeyHeaders, Options, RateLimit};
pub use record::Request;
pub use state::Service;
pub use task::{Status, StoredFile, Task, TaskSpec};

use faults::FaultBook;
use listener::{Connections, Gate, Listening, Port, Threads};
use rate::Windows;
use record::RequestLog;
use serde_json::Value;
use state::State;
use std::collections::hash_map::RandomState;
use std::fmt::Write as _;
use std::hash::{BuildHasher, Hasher};
use std::ops::Deref;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};
use tls::Tls;

struct Inner {
    options: Options,
    started: Instant,
    port: Port,
    tls: Option<Tls>,
    prefix: String,
    first_service: Service,
    state: Mutex<State>,
    windows: Mutex<Windows>,
    log: RequestLog,
    faults: FaultBook,
    gate: Gate,
    /// Dropped at the end of the server, which wakes the thread that checks for silent services.
    life: Gate,
    connections: Connections,
    threads: Threads,
    listening: Mutex<Option<Listening>>,
    users: AtomicUsize,
}

impl Inner {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no thread panics with this lock")
    }

    fn windows(&self) -> MutexGuard<'_, Windows> {
        let windows = self.windows.lock();
        windows.expect("no thread panics with this lock")
    }
}

/// A running fake Server. It stops when it is dropped; if the test has failed, it prints every request.
pub struct FakeServer {
    control: Control,
    watch: Option<JoinHandle<()>>,
}

impl FakeServer {
    /// A Server that behaves as the real one, without its rate limit.
    pub fn start() -> Self {
        Self::start_with(Options::default())
    }

    pub fn start_with(options: Options) -> Self {
        let prefix = options.task_prefix.clone().unwrap_or_else(random_prefix);
        let mut state = State::new(&options, &prefix);
        let inner = Inner {
            started: Instant::now(),
            port: Port::reserve(options.port).expect("bind a port of 127.0.0.1"),
            tls: options.https.then(Tls::new),
            first_service: state.add_service(None),
            state: Mutex::new(state),
            windows: Mutex::new(Windows::default()),
            log: RequestLog::new(options.keep_requests),
            faults: FaultBook::default(),
            gate: Gate::default(),
            life: Gate::default(),
            connections: Connections::default(),
            threads: Threads::default(),
            listening: Mutex::new(None),
            users: AtomicUsize::new(0),
            prefix,
            options,
        };
        let control = Control { inner: Arc::new(inner) };
        control.resume();
        let watched = control.clone();
        let watch = thread::spawn(move || {
            let inner = &watched.inner;
            while inner.life.wait(0, inner.options.check_interval) {
                let timeout = inner.options.heartbeat_timeout;
                inner.state().check_heartbeats(Instant::now(), timeout);
            }
        });
        let watch = Some(watch);
        Self { control, watch }
    }

    /// A handle for closures and other threads.
    pub fn control(&self) -> Control {
        self.control.clone()
    }
}

impl Deref for FakeServer {
    type Target = Control;

    fn deref(&self) -> &Control {
        &self.control
    }
}

impl Drop for FakeServer {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("{}", self.report());
        }
        self.stop_listening();
        // Closures of faults may hold handles to this server.
        self.inner.faults.clear();
        self.inner.life.next();
        self.inner.threads.join_all();
        if let Some(watch) = self.watch.take() {
            let _ = watch.join();
        }
    }
}

/// Seven characters that are unique to this server.
fn random_prefix() -> String {
    let random = RandomState::new().build_hasher().finish();
    format!("t{:06x}", random & 0xff_ffff)
}
