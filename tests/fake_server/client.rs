//! A small agent client with one function for each call of PROTOCOL.

use crate::server::{Control, FakeServer, Status, TaskSpec};
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// The time limit of a call in these tests.
pub const DEADLINE: Duration = Duration::from_secs(20);

/// An answer that arrived whole.
#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    pub headers: ureq::http::HeaderMap,
    pub bytes: Vec<u8>,
}

impl Reply {
    /// The body as JSON.
    pub fn json(&self) -> Value {
        let text = String::from_utf8_lossy(&self.bytes);
        serde_json::from_slice(&self.bytes).unwrap_or_else(|error| panic!("{error} in {text}"))
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }
}

/// One agent's connection pool and credentials.
#[derive(Clone)]
pub struct Client {
    pub agent: ureq::Agent,
    pub url: String,
    pub sid: String,
    pub key: String,
}

impl Client {
    pub fn new(server: &FakeServer) -> Self {
        Self::with_credentials(server, server.service())
    }

    pub fn with_credentials(server: &Control, (sid, key): (String, String)) -> Self {
        let config = ureq::Agent::config_builder()
            .proxy(None)
            .timeout_global(Some(DEADLINE))
            .http_status_as_error(false)
            .build();
        Self { agent: config.into(), url: server.url(), sid, key }
    }

    pub fn headers(&self) -> Vec<(String, String)> {
        [
            ("X-Service-ID", self.sid.clone()),
            ("X-API-Key", self.key.clone()),
            ("Authorization", format!("Bearer {}", self.key)),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .to_vec()
    }

    /// Sends a request with exactly these headers.
    pub fn request(
        &self,
        method: &str,
        path: &str,
        headers: &[(String, String)],
        body: Option<(&str, Vec<u8>)>,
    ) -> Result<Reply, ureq::Error> {
        let url = format!("{}{path}", self.url);
        let mut request = ureq::http::Request::builder().method(method).uri(url);
        for (name, value) in headers {
            request = request.header(name, value);
        }
        let response = match body {
            Some((content_type, bytes)) => {
                let request = request.header("content-type", content_type);
                self.agent.run(request.body(bytes)?)?
            }
            None => self.agent.run(request.body(())?)?,
        };
        let (head, mut body) = response.into_parts();
        let bytes = body.with_config().limit(u64::MAX).read_to_vec()?;
        Ok(Reply { status: head.status.as_u16(), headers: head.headers, bytes })
    }

    pub fn try_post(&self, call: &str, body: &Value) -> Result<Reply, ureq::Error> {
        let path = format!("/api/v1/agent/{}/{call}", self.sid);
        let body = Some(("application/json", body.to_string().into_bytes()));
        self.request("POST", &path, &self.headers(), body)
    }

    pub fn post(&self, call: &str, body: &Value) -> Reply {
        let reply = self.try_post(call, body);
        reply.unwrap_or_else(|error| panic!("{call}: {error}"))
    }

    pub fn heartbeat(&self, status: &str) -> Reply {
        let body = json!({"status": status, "current_load": 0, "capacity": 2, "available_capacity": 2});
        self.post("heartbeat", &body)
    }

    pub fn try_poll(&self) -> Result<Reply, ureq::Error> {
        self.try_post("poll", &json!({"current_load": 0, "available_capacity": 2}))
    }

    pub fn poll(&self) -> Value {
        let reply = self.try_poll().expect("poll");
        assert_eq!(reply.status, 200);
        reply.json()
    }

    /// The id that a poll offers.
    pub fn offered(&self) -> Option<String> {
        self.poll()["task"]["id"].as_str().map(str::to_owned)
    }

    pub fn accept(&self, id: &str) -> Reply {
        self.post("accept", &json!({"task_id": id}))
    }

    pub fn complete(&self, id: &str, status: &str) -> Reply {
        self.post("complete", &completion(id, status))
    }

    pub fn get(&self, path: &str) -> Reply {
        self.try_get(path).unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    pub fn try_get(&self, path: &str) -> Result<Reply, ureq::Error> {
        let path = format!("/api/v1/files/agent/{}/files/{path}", self.sid);
        self.request("GET", &path, &self.headers(), None)
    }

    pub fn try_upload(&self, task: &str, filename: &str, bytes: &[u8]) -> Result<Reply, ureq::Error> {
        let path = self.upload_path();
        let body = form(&[("task_id", None, task.as_bytes()), ("file", Some(filename), bytes)]);
        self.request("POST", &path, &self.headers(), Some((FORM, body)))
    }

    pub fn upload(&self, task: &str, filename: &str, bytes: &[u8]) -> Reply {
        let reply = self.try_upload(task, filename, bytes);
        reply.unwrap_or_else(|error| panic!("upload {filename}: {error}"))
    }

    pub fn upload_path(&self) -> String {
        format!("/api/v1/files/agent/{}/files/upload", self.sid)
    }

    /// Submits a task and accepts it.
    pub fn running_task(&self, server: &FakeServer) -> String {
        let id = server.submit(TaskSpec::new("run").service(&self.sid));
        assert_eq!(self.accept(&id).status, 200);
        assert_eq!(server.task(&id).status, Status::Running);
        id
    }

    /// The head of an upload with a body of this length, for a raw connection.
    pub fn upload_head(&self, length: usize) -> String {
        let mut head = format!("POST {} HTTP/1.1\r\nhost: x\r\n", self.upload_path());
        for (name, value) in self.headers() {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str(&format!("content-type: {FORM}\r\ncontent-length: {length}\r\n\r\n"));
        head
    }
}

/// The body of `complete`.
pub fn completion(id: &str, status: &str) -> Value {
    json!({
        "task_id": id,
        "status": status,
        "output": {"files": [], "stdout": "done"},
        "error_message": null,
        "file_ids": [],
    })
}

/// The content type that goes with [`form`].
pub const FORM: &str = "multipart/form-data; boundary=----limit7";

/// A form's body: name, filename and content of each field.
pub fn form(parts: &[(&str, Option<&str>, &[u8])]) -> Vec<u8> {
    let mut body = Vec::new();
    for (name, filename, content) in parts {
        let filename = filename.map(|name| format!("; filename=\"{name}\"")).unwrap_or_default();
        let head = format!("------limit7\r\nContent-Disposition: form-data; name=\"{name}\"{filename}\r\n\r\n");
        body.extend_from_slice(head.as_bytes());
        body.extend_from_slice(content);
        body.extend_from_slice(b"\r\n");
    }
    body.extend_from_slice(b"------limit7--\r\n");
    body
}

/// A raw connection, for requests that no client library sends.
pub fn connect(server: &FakeServer) -> TcpStream {
    let address = server.url().replace("http://", "");
    let connection = TcpStream::connect(address).expect("connect");
    connection.set_read_timeout(Some(DEADLINE)).expect("set a deadline");
    connection
}

/// Sends bytes on a raw connection and reads until its end.
pub fn exchange(connection: &mut TcpStream, request: &[u8]) -> std::io::Result<String> {
    connection.write_all(request)?;
    let mut answer = Vec::new();
    connection.read_to_end(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

pub fn millis(count: u64) -> Duration {
    Duration::from_millis(count)
}
