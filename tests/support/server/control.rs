//! The handle with which a test controls the fake Server and reads its state.

use super::Inner;
use super::faults::{Fault, FaultId, Match};
use super::listener::Listening;
use super::record::Request;
use super::state::Service;
use super::task::{Status, StoredFile, Task, TaskSpec};
use serde_json::Value;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::{Arc, MutexGuard};
use std::thread;
use std::time::{Duration, Instant};

/// A handle to a [`FakeServer`].
#[derive(Clone)]
pub struct Control {
    pub(super) inner: Arc<Inner>,
}

impl Control {
    // Address and credentials.

    /// The `base_url` for an agent.
    pub fn url(&self) -> String {
        let scheme = match self.inner.tls {
            Some(_) => "https",
            None => "http",
        };
        let options = &self.inner.options;
        format!("{scheme}://{}{}", self.inner.port.address, options.path_prefix)
    }

    /// The certificate of the authority that signed this https Server's, for `SSL_CERT_FILE`.
    pub fn ca_pem(&self) -> PathBuf {
        let tls = self.inner.tls.as_ref();
        tls.expect("start the server with `https: true`").ca_pem()
    }

    /// `service_id` and `api_key` of the service that exists from the start.
    pub fn service(&self) -> (String, String) {
        let service = &self.inner.first_service;
        (service.id.clone(), service.api_key.clone())
    }

    /// Adds another service and returns its `service_id` and `api_key`.
    pub fn add_service(&self) -> (String, String) {
        let service = self.inner.state().add_service(None);
        (service.id, service.api_key)
    }

    /// The Server's state of a service.
    pub fn service_state(&self, service_id: &str) -> Service {
        let services = self.services();
        let service = services.into_iter().find(|one| one.id == service_id);
        service.unwrap_or_else(|| panic!("the server has no service `{service_id}`"))
    }

    /// All services, the newest last.
    pub fn services(&self) -> Vec<Service> {
        self.inner.state().services.clone()
    }

    /// Makes a registration token that creates a service.
    pub fn add_token(&self, token: &str) {
        self.inner.state().add_token(token, None);
    }

    /// Makes a registration token that gives an existing service a new key, which revokes the old one.
    pub fn add_token_for(&self, token: &str, service_id: &str) {
        self.inner.state().add_token(token, Some(service_id));
    }

    /// Makes a service's key invalid: 401 from now on.
    pub fn revoke_key(&self, service_id: &str) {
        if let Ok(service) = self.inner.state().service_mut(service_id) {
            service.api_key = "revoked".to_owned();
        }
    }

    /// Deletes a service and creates it again under its id: calls are 500 until an agent registers for it.
    pub fn recreate_service(&self, service_id: &str) {
        if let Ok(service) = self.inner.state().service_mut(service_id) {
            service.hollow = true;
        }
    }

    // Tasks and files.

    /// Every id that this Server makes begins with this.
    pub fn task_prefix(&self) -> &str {
        &self.inner.prefix
    }

    /// Queues a task and returns its id.
    pub fn submit(&self, spec: TaskSpec) -> String {
        self.inner.state().submit(spec)
    }

    /// Queues a task with this JSON as its offer, and returns `id`.
    pub fn submit_raw(&self, id: &str, offer: Value) -> String {
        self.inner.state().submit_raw(id, offer, None)
    }

    /// The Server's database is reset, and its next task gets the id of an earlier one.
    pub fn submit_anew(&self, spec: TaskSpec, id: &str) -> String {
        let mut state = self.inner.state();
        state.tasks.retain(|task| task.id != id);
        state.files.retain(|file| file.task_id != id);
        state.submit(spec.id(id))
    }

    /// Stores a file of a client for a task and returns the file's id.
    pub fn add_file(&self, task_id: &str, filename: &str, bytes: impl Into<Vec<u8>>) -> String {
        let mut state = self.inner.state();
        let file = state.store(task_id, filename, bytes.into(), None, "client");
        file.id
    }

    /// Stores a file that an agent has sent for a task, and returns the file's id.
    pub fn add_result(&self, task_id: &str, filename: &str, bytes: impl Into<Vec<u8>>) -> String {
        self.inner.state().store(task_id, filename, bytes.into(), None, "agent").id
    }

    /// Cancels as a person does: at once where the task waits, else `cancelling`.
    pub fn cancel(&self, id: &str) {
        self.inner.state().cancel(id);
    }

    /// Puts a task that has ended back into the queue, as after the restore of a backup.
    pub fn forget_end(&self, id: &str) {
        self.inner.state().forget_end(id);
    }

    /// A backup of the Server is put back: this is the task of its id, which waits again, and these are its files.
    pub fn restore(&self, mut task: Task, files: Vec<StoredFile>) {
        let mut state = self.inner.state();
        state.tasks.retain(|other| other.id != task.id);
        state.files.retain(|file| file.task_id != task.id);
        state.files.extend(files);
        task.become_(Status::Pending);
        state.tasks.push(task);
    }

    /// Declares a service offline now, as after a minute without heartbeats. Its tasks are requeued.
    pub fn time_out(&self, service_id: &str) {
        self.inner.state().time_out(service_id);
    }

    /// Pauses or resumes all offers.
    pub fn pause_offering(&self, paused: bool) {
        self.inner.state().offering = !paused;
    }

    /// The task's current state; fails the test if there is no such task.
    pub fn task(&self, id: &str) -> Task {
        let tasks = self.tasks();
        let task = tasks.into_iter().find(|task| task.id == id);
        task.unwrap_or_else(|| panic!("the server has no task `{id}`"))
    }

    pub fn tasks(&self) -> Vec<Task> {
        self.inner.state().tasks.clone()
    }

    /// The number of tasks that have not ended.
    pub fn open_tasks(&self) -> usize {
        let state = self.inner.state();
        state.tasks.iter().filter(|task| !task.status.is_final()).count()
    }

    /// All files of a task, the person's and the agent's, in the order of their arrival.
    pub fn files(&self, task_id: &str) -> Vec<StoredFile> {
        let state = self.inner.state();
        let files = state.files.iter().filter(|file| file.task_id == task_id);
        files.cloned().collect()
    }

    /// The files that agents uploaded for a task, by name.
    pub fn outputs(&self, task_id: &str) -> Vec<StoredFile> {
        let mut files = self.files(task_id);
        files.retain(|file| file.created_by == "agent");
        files.sort_by(|a, b| a.filename.cmp(&b.filename));
        files
    }

    /// The one output of that name; fails the test when there is none, or more than one.
    pub fn output(&self, task_id: &str, filename: &str) -> StoredFile {
        let outputs = self.outputs(task_id);
        let mut named = outputs.iter().filter(|file| file.filename == filename);
        match (named.next(), named.next()) {
            (Some(file), None) => file.clone(),
            _ => panic!("not exactly one output `{filename}` of `{task_id}`: {outputs:?}"),
        }
    }

    pub fn file(&self, file_id: &str) -> Option<StoredFile> {
        let state = self.inner.state();
        let mut files = state.files.iter();
        files.find(|file| file.id == file_id).cloned()
    }

    /// The number of uploads that have started and not finished.
    pub fn unfinished_uploads(&self) -> usize {
        self.inner.state().unfinished_uploads()
    }

    /// The number of uploads that were deleted because two of one task ran at the same time.
    pub fn spoiled_uploads(&self) -> usize {
        self.inner.state().spoiled_uploads
    }

    /// Waits until the task has this status and returns it. Fails the test at the deadline, and at
    /// once when the task ends otherwise.
    pub fn wait_for(&self, id: &str, status: Status, deadline: Duration) -> Task {
        let mut seen = None;
        self.wait_until(&format!("`{id}` to be {status}"), deadline, |server| {
            let task = server.task(id);
            if task.status.is_final() && task.status != status {
                panic!("`{id}` should become {status}, and is: {task:#?}");
            }
            let reached = task.status == status;
            seen = Some(task);
            reached
        });
        seen.expect("a task was seen")
    }

    /// Waits until the condition holds; fails the test at the deadline.
    pub fn wait_until(&self, what: &str, deadline: Duration, mut holds: impl FnMut(&Self) -> bool) {
        let until = Instant::now() + deadline;
        while !holds(self) {
            assert!(Instant::now() < until, "waited {deadline:?} in vain for {what}");
            thread::sleep(Duration::from_millis(5));
        }
    }

    // Requests of agents.

    /// Every request so far, also those still under way.
    pub fn requests(&self) -> Vec<Request> {
        self.inner.log.all()
    }

    /// The requests of one call: `poll`, `accept`, `upload`, …
    pub fn requests_to(&self, call: &str) -> Vec<Request> {
        let mut requests = self.requests();
        requests.retain(|request| request.is(call));
        requests
    }

    /// The heartbeats that were acknowledged.
    pub fn heartbeats(&self) -> Vec<Request> {
        let mut requests = self.requests_to("heartbeat");
        requests.retain(|request| request.status == Some(200));
        requests
    }

    /// The longest time between two acknowledged heartbeats, up to now.
    pub fn longest_heartbeat_gap(&self) -> Duration {
        let mut times: Vec<Instant> = self.heartbeats().iter().map(|beat| beat.at).collect();
        times.push(Instant::now());
        let gaps = times.windows(2).map(|pair| pair[1] - pair[0]);
        gaps.max().unwrap_or_default()
    }

    /// All requests and tasks, one line each, for the report of a failed test.
    pub fn report(&self) -> String {
        let mut text = format!("=== fake Server {} ===\n", self.url());
        for request in self.requests() {
            let at = request.at.saturating_duration_since(self.inner.started);
            let _ = writeln!(text, "{:8.3}s {request}", at.as_secs_f64());
        }
        for task in self.tasks() {
            let (id, status) = (&task.id, task.status);
            let error = task.error_message.as_deref().unwrap_or_default();
            let _ = writeln!(text, "task {id}: {status} {error}");
            for file in self.files(id) {
                let _ = writeln!(text, "     {file:?}");
            }
        }
        text
    }

    // Faults and outages.

    /// Scripts a fault for matching requests. If several match, only the first is applied.
    pub fn fault(&self, which: Match, fault: Fault) -> FaultId {
        self.inner.faults.add(which, fault)
    }

    pub fn remove_fault(&self, id: FaultId) {
        self.inner.faults.remove(id);
    }

    pub fn clear_faults(&self) {
        self.inner.faults.clear();
    }

    /// The number of requests to which the fault was applied.
    pub fn fault_hits(&self, id: FaultId) -> usize {
        self.inner.faults.hits(id)
    }

    /// Starts an outage: connections are closed and new ones refused. The state is kept.
    pub fn stop_listening(&self) {
        let listening = self.listening().take();
        if let Some(listening) = listening {
            listening.stop(&self.inner);
        }
    }

    /// Ends an outage. The port stays the same.
    pub fn resume(&self) {
        let mut listening = self.listening();
        if listening.is_none() {
            *listening = Some(Listening::start(self).expect("listen on the reserved port"));
        }
    }

    fn listening(&self) -> MutexGuard<'_, Option<Listening>> {
        let listening = self.inner.listening.lock();
        listening.expect("no thread panics with this lock")
    }

    // Users of this Server.

    /// Counts a user of this Server, such as an agent in a test.
    pub fn enter(&self) {
        self.inner.users.fetch_add(1, Ordering::SeqCst);
    }

    /// Removes a user; returns true for the last one.
    pub fn leave(&self) -> bool {
        self.inner.users.fetch_sub(1, Ordering::SeqCst) == 1
    }
}
