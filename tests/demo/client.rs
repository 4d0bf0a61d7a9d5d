//! The demo's client: submits tasks, waits for them and shows the results.

use crate::Submit;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use std::error::Error;
use std::fs;
use std::path::{Component, Path};
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

/// Larger result files are only named.
const SHOWN_BYTES: usize = 4096;

type Done = Result<ExitCode, Box<dyn Error>>;

/// Submits a task and, with `--wait`, waits for it. Succeeds if the task was completed.
pub fn submit(submit: &Submit) -> Done {
    let server = Connection::to(&submit.at.server);
    let mut inputs = Vec::new();
    for path in &submit.inputs {
        let bytes = fs::read(path).map_err(|error| format!("{}: {error}", path.display()))?;
        let name = path.file_name().ok_or_else(|| format!("{}: not a file", path.display()))?;
        inputs.push(json!({"filename": name.to_string_lossy(), "base64": STANDARD.encode(bytes)}));
    }
    let body = json!({
        "task_prompt": submit.prompt,
        "output_prompt": submit.output_prompt,
        "input_files": inputs,
    });
    let answer = server.post("submit", &body)?;
    let id = answer["task_id"].as_str().ok_or("the Server named no task")?;
    println!("task {id}");
    let Some(seconds) = submit.wait else {
        return Ok(ExitCode::SUCCESS);
    };
    let task = wait(&server, id, Duration::from_secs(seconds))?;
    show(&server, &task, submit.out.as_deref())?;
    match task["status"].as_str() {
        Some("completed") => Ok(ExitCode::SUCCESS),
        _ => Ok(ExitCode::FAILURE),
    }
}

/// Lists the tasks, one in a line.
pub fn tasks(url: &str) -> Done {
    let answer = Connection::to(url).get("tasks")?;
    for task in answer["tasks"].as_array().into_iter().flatten() {
        println!("{} {} {}", word(&task["id"]), word(&task["status"]), word(&task["task_prompt"]));
    }
    Ok(ExitCode::SUCCESS)
}

/// Cancels a task and prints its status.
pub fn cancel(url: &str, id: &str) -> Done {
    let task = Connection::to(url).post(&format!("cancel/{id}"), &json!({}))?;
    println!("{} {}", word(&task["id"]), word(&task["status"]));
    Ok(ExitCode::SUCCESS)
}

/// Makes a registration token and prints it.
pub fn token(url: &str) -> Done {
    let answer = Connection::to(url).post("tokens", &json!({}))?;
    println!("{}", word(&answer["registration_token"]));
    Ok(ExitCode::SUCCESS)
}

fn wait(server: &Connection, id: &str, deadline: Duration) -> Result<Value, Box<dyn Error>> {
    let until = Instant::now() + deadline;
    loop {
        let task = server.get(&format!("tasks/{id}"))?;
        let status = word(&task["status"]);
        if ["completed", "failed", "cancelled"].contains(&status) {
            return Ok(task);
        }
        if Instant::now() >= until {
            let seconds = deadline.as_secs();
            return Err(format!("the task is still {status} after {seconds} s").into());
        }
        thread::sleep(Duration::from_millis(200));
    }
}

fn show(server: &Connection, task: &Value, out: Option<&Path>) -> Result<(), Box<dyn Error>> {
    println!("status: {}", word(&task["status"]));
    if let Some(message) = task["error_message"].as_str() {
        println!("error: {message}");
    }
    let output = &task["output"];
    if !output["exit_code"].is_null() {
        println!("exit code: {}", output["exit_code"]);
    }
    for stream in ["stdout", "stderr"] {
        let text = word(&output[stream]);
        if !text.is_empty() {
            println!("{stream}:");
            print_indented(text);
        }
    }
    for file in task["files"].as_array().into_iter().flatten() {
        if file["created_by"] != "agent" {
            continue;
        }
        let name = word(&file["filename"]);
        let bytes = server.file(word(&file["id"]))?;
        println!("file: {name} ({} bytes)", bytes.len());
        if let (true, Ok(text)) = (bytes.len() <= SHOWN_BYTES, std::str::from_utf8(&bytes)) {
            print_indented(text);
        }
        if let Some(folder) = out {
            write_below(folder, name, &bytes)?;
        }
    }
    Ok(())
}

fn print_indented(text: &str) {
    for line in text.lines() {
        println!("    {line}");
    }
}

/// Writes a file under the name it has on the Server, which must not lead out of the folder.
fn write_below(folder: &Path, name: &str, bytes: &[u8]) -> Result<(), Box<dyn Error>> {
    let relative = Path::new(name);
    let plain = |part: Component| matches!(part, Component::Normal(_));
    if name.is_empty() || !relative.components().all(plain) {
        return Err(format!("`{name}` would lie outside of {}", folder.display()).into());
    }
    let path = folder.join(relative);
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).map_err(|error| format!("{}: {error}", parent.display()))?;
    }
    fs::write(&path, bytes).map_err(|error| format!("{}: {error}", path.display()).into())
}

fn word(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// The demo Server's calls for people.
struct Connection {
    agent: ureq::Agent,
    url: String,
}

impl Connection {
    fn to(url: &str) -> Self {
        let config = ureq::Agent::config_builder()
            .proxy(None)
            .timeout_global(Some(Duration::from_secs(60)))
            .http_status_as_error(false)
            .build();
        let url = format!("{}/demo", url.trim_end_matches('/'));
        Self { agent: config.into(), url }
    }

    fn get(&self, path: &str) -> Result<Value, Box<dyn Error>> {
        let url = format!("{}/{path}", self.url);
        read_json(&url, self.agent.get(&url).call())
    }

    fn post(&self, path: &str, body: &Value) -> Result<Value, Box<dyn Error>> {
        let url = format!("{}/{path}", self.url);
        read_json(&url, self.agent.post(&url).content_type("application/json").send(&body.to_string()))
    }

    fn file(&self, id: &str) -> Result<Vec<u8>, Box<dyn Error>> {
        let url = format!("{}/files/{id}", self.url);
        let mut response = self.agent.get(&url).call()?;
        if !response.status().is_success() {
            return Err(format!("{url}: {}", response.status()).into());
        }
        Ok(response.body_mut().with_config().limit(u64::MAX).read_to_vec()?)
    }
}

fn read_json(
    url: &str,
    response: Result<ureq::http::Response<ureq::Body>, ureq::Error>,
) -> Result<Value, Box<dyn Error>> {
    let mut response = response.map_err(|error| format!("{url}: {error}"))?;
    let status = response.status();
    let text = response.body_mut().read_to_string()?;
    if !status.is_success() {
        return Err(format!("{url}: {status}: {text}").into());
    }
    Ok(serde_json::from_str(&text)?)
}
