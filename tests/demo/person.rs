//! The calls under `/demo`, for people who use the demo Server.

use crate::server::{Control, Request, Response, StoredFile, Task, TaskSpec};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

/// Answers a call under `/demo`; `None` for everything else.
pub fn answer(server: &Control, request: &Request) -> Option<Response> {
    let segments = request.segments();
    let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
    let ["demo", call @ ..] = segments.as_slice() else {
        return None;
    };
    let answer = match (request.method.as_str(), call) {
        ("POST", ["submit"]) => submit(server, &request.body),
        ("POST", ["tokens"]) => Ok(new_token(server)),
        ("POST", ["cancel", id]) => cancel(server, id),
        ("GET", ["tasks"]) => {
            let tasks = server.tasks();
            let tasks: Vec<Value> = tasks.iter().map(|task| shown(server, task)).collect();
            Ok(json!({"tasks": tasks}))
        }
        ("GET", ["tasks", id]) => match find(server, id) {
            Some(task) => Ok(shown(server, &task)),
            None => Err(format!("there is no task `{id}`")),
        },
        ("GET", ["files", id]) => {
            return match server.file(id) {
                Some(file) => Some(Response::streamed(&file.mime_type, file.bytes)),
                None => Some(not_found(&format!("there is no file `{id}`"))),
            };
        }
        _ => return None,
    };
    Some(match answer {
        Ok(body) => Response::json(200, &body),
        Err(message) => not_found(&message),
    })
}

fn find(server: &Control, id: &str) -> Option<Task> {
    server.tasks().into_iter().find(|task| task.id == id)
}

fn submit(server: &Control, body: &Value) -> Result<Value, String> {
    let Some(prompt) = body["task_prompt"].as_str() else {
        return Err("`task_prompt` is missing".to_owned());
    };
    let mut spec = TaskSpec::new(prompt);
    if let Some(text) = body["output_prompt"].as_str() {
        spec = spec.output_prompt(text);
    }
    for file in body["input_files"].as_array().into_iter().flatten() {
        let Some(filename) = file["filename"].as_str() else {
            return Err("an input file has no `filename`".to_owned());
        };
        let bytes = match (file["text"].as_str(), file["base64"].as_str()) {
            (Some(text), None) => text.as_bytes().to_owned(),
            (None, Some(encoded)) => {
                let decoded = STANDARD.decode(encoded);
                decoded.map_err(|error| format!("`base64` of `{filename}`: {error}"))?
            }
            _ => return Err(format!("`{filename}` needs either `text` or `base64`")),
        };
        spec = spec.input(filename, bytes);
    }
    Ok(json!({"task_id": server.submit(spec)}))
}

fn cancel(server: &Control, id: &str) -> Result<Value, String> {
    server.cancel(id);
    let task = find(server, id).ok_or_else(|| format!("there is no task `{id}`"))?;
    Ok(shown(server, &task))
}

fn new_token(server: &Control) -> Value {
    let number = server.requests_to("tokens").len();
    let token = format!("rt_{}_{number}", server.task_prefix());
    server.add_token_for(&token, &server.service().0);
    json!({"registration_token": token})
}

fn shown(server: &Control, task: &Task) -> Value {
    let files = server.files(&task.id);
    let files: Vec<Value> = files.iter().map(StoredFile::listed).collect();
    json!({
        "id": task.id,
        "status": task.status.as_str(),
        "task_prompt": task.offer["task_prompt"],
        "output": task.output,
        "error_message": task.error_message,
        "retry_count": task.retry_count,
        "files": files,
    })
}

fn not_found(message: &str) -> Response {
    Response::json(404, &json!({"error": "NotFound", "message": message}))
}
