//! Routes a request: identifies the call, checks the credentials and asks the state machine.

use super::Inner;
use super::http::{Headers, Response};
use super::multipart::Parts;
use super::options::{EmptyPoll, KeyHeaders};
use super::record::Request;
use super::state::{Answer, Refusal, Upload};
use serde_json::{Value, json};
use std::io::{self, ErrorKind, Read};
use std::time::Instant;

/// An agent's call with the values in its path.
pub enum Call {
    Register,
    Heartbeat,
    Poll,
    Accept,
    Complete,
    Download { file_id: String },
    Upload,
    List { task_id: String },
}

/// A call on behalf of a service; `register` has none.
pub struct Route {
    pub call: Call,
    pub service_id: String,
}

/// The route of a request; `None` for an unknown path.
pub fn find(request: &Request, path_prefix: &str) -> Option<Route> {
    let segments = request.segments();
    let prefix: Vec<&str> = path_prefix.split('/').filter(|s| !s.is_empty()).collect();
    let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
    let rest = segments.strip_prefix(prefix.as_slice())?.strip_prefix(&["api", "v1"])?;
    let (call, service_id) = match (request.method.as_str(), rest) {
        ("POST", ["agent", "register"]) => (Call::Register, ""),
        ("POST", ["agent", sid, "heartbeat"]) => (Call::Heartbeat, *sid),
        ("POST", ["agent", sid, "poll"]) => (Call::Poll, *sid),
        ("POST", ["agent", sid, "accept"]) => (Call::Accept, *sid),
        ("POST", ["agent", sid, "complete"]) => (Call::Complete, *sid),
        ("POST", ["files", "agent", sid, "files", "upload"]) => (Call::Upload, *sid),
        ("GET", ["files", "agent", sid, "files", file_id, "download"]) => {
            let file_id = (*file_id).to_owned();
            (Call::Download { file_id }, *sid)
        }
        ("GET", ["files", "agent", sid, "files", "list", task_id]) => {
            let task_id = (*task_id).to_owned();
            (Call::List { task_id }, *sid)
        }
        _ => return None,
    };
    let service_id = service_id.to_owned();
    Some(Route { call, service_id })
}

/// The body of a request.
pub enum Content {
    /// No body, or JSON, which is in the request's record.
    Plain,
    Upload(Upload),
    /// A body that the call doesn't accept.
    Bad(Refusal),
}

/// Reads a JSON body, or none.
pub fn read_json(body: &mut impl Read, request: &mut Request) -> io::Result<Content> {
    let mut bytes = Vec::new();
    body.read_to_end(&mut bytes)?;
    if bytes.is_empty() {
        return Ok(Content::Plain);
    }
    let kind = request.headers.get("content-type").unwrap_or_default();
    if !kind.starts_with("application/json") {
        let message = "请求体必须是 application/json";
        return Ok(Content::Bad(Refusal::new(415, "UnsupportedMedia", message)));
    }
    match serde_json::from_slice(&bytes) {
        Ok(value) => request.body = value,
        Err(error) => {
            let message = format!("请求体不是 JSON: {error}");
            return Ok(Content::Bad(Refusal::new(400, "BadRequest", message)));
        }
    }
    request.task_id = request.body["task_id"].as_str().map(str::to_owned);
    Ok(Content::Plain)
}

/// Reads an upload: the field `task_id`, then the field `file`. As soon as the task is known, its other unfinished
/// uploads are deleted (PROTOCOL 7).
pub fn read_upload(inner: &Inner, body: impl Read, route: &Route, request: &mut Request) -> io::Result<Content> {
    let content_type = request.headers.get("content-type").unwrap_or_default();
    let bad = |message: &str| Ok(Content::Bad(Refusal::new(400, "BadRequest", message)));
    let mut parts = match Parts::new(body, content_type) {
        Ok(parts) => parts,
        Err(error) if error.kind() == ErrorKind::InvalidData => return bad(&error.to_string()),
        Err(error) => return Err(error),
    };
    let task_id = match parts.next(1024)? {
        Some(part) if part.name == "task_id" => String::from_utf8_lossy(&part.bytes).into_owned(),
        _ => return bad("第一个字段必须是 task_id"),
    };
    request.task_id = Some(task_id.clone());
    let known = authenticate(inner, &request.headers, &route.service_id).is_ok();
    let serial = match known {
        true => inner.state().begin_upload(&task_id),
        false => 0,
    };
    let part = match parts.next(inner.options.max_upload_bytes) {
        Ok(Some(part)) if part.name == "file" => part,
        Ok(_) => return bad("缺少字段 file"),
        Err(error) if error.kind() == ErrorKind::FileTooLarge => return bad("文件过大"),
        Err(error) => return Err(error),
    };
    let Some(filename) = part.filename else {
        return bad("字段 file 没有文件名");
    };
    request.filename = Some(filename.clone());
    if parts.next(0)?.is_some() {
        return bad("file 之后还有字段");
    }
    Ok(Content::Upload(Upload { serial, task_id, filename, mime_type: part.content_type, bytes: part.bytes }))
}

/// Performs the call and returns its answer.
pub fn answer(inner: &Inner, route: Option<&Route>, request: &Request, content: Content) -> Response {
    let Some(route) = route else {
        return refused(&Refusal::new(404, "NotFound", "路径不存在"));
    };
    match admitted_answer(inner, route, request, content) {
        Ok(response) => response,
        Err(refusal) => {
            let response = refused(&refusal);
            match inner.options.rate_limit {
                Some(limit) if refusal.status == 429 => {
                    response.header("retry-after", &limit.retry_after_secs.to_string())
                }
                _ => response,
            }
        }
    }
}

fn admitted_answer(inner: &Inner, route: &Route, request: &Request, content: Content) -> Result<Response, Refusal> {
    if !matches!(route.call, Call::Register) {
        admit(inner, &request.headers, &route.service_id)?;
    }
    let upload = match content {
        Content::Bad(refusal) => return Err(refusal),
        Content::Upload(upload) => Some(upload),
        Content::Plain => None,
    };
    let sid = route.service_id.as_str();
    let body = &request.body;
    let mut state = inner.state();
    let ok = |answer: Answer| answer.map(|body| Response::json(200, &body));
    match &route.call {
        Call::Register => {
            let body = state.register(body)?;
            Ok(Response::json(inner.options.register_status, &body))
        }
        Call::Heartbeat => ok(state.heartbeat(sid, body)),
        Call::Poll => {
            let body = state.poll(sid, body)?;
            let empty = body["has_task"] == false && body["should_cancel"] == false;
            if empty && inner.options.empty_poll == EmptyPoll::NoContent {
                let mut response = Response::new(204, "application/json", "");
                response.headers.clear();
                return Ok(response);
            }
            Ok(Response::json(200, &body))
        }
        Call::Accept => ok(state.accept(sid, body)),
        Call::Complete => ok(state.complete(sid, body)),
        Call::List { task_id } => ok(state.list(sid, task_id)),
        Call::Download { file_id } => {
            let file = state.download(sid, file_id)?;
            Ok(Response::streamed(&file.mime_type, file.bytes))
        }
        Call::Upload => {
            let message = "缺少上传内容";
            let upload = upload.ok_or_else(|| Refusal::new(400, "BadRequest", message))?;
            let body = state.finish_upload(sid, upload)?;
            Ok(Response::json(inner.options.upload_status, &body))
        }
    }
}

/// Checks the key and counts the call against its limit (PROTOCOL 6 and 8).
pub fn admit(inner: &Inner, headers: &Headers, sid: &str) -> Result<(), Refusal> {
    let key = authenticate(inner, headers, sid)?;
    if let Some(limit) = &inner.options.rate_limit {
        if !inner.windows().admit(&key, Instant::now(), limit) {
            let message = "请求过于频繁，请稍后再试";
            return Err(Refusal::new(429, "TooManyRequests", message));
        }
    }
    Ok(())
}

fn authenticate(inner: &Inner, headers: &Headers, sid: &str) -> Result<String, Refusal> {
    let missing = || Refusal::new(401, "Unauthorized", "缺少认证头");
    let id = headers.get("x-service-id").ok_or_else(missing)?;
    let plain = headers.get("x-api-key");
    let bearer = headers.get("authorization").and_then(|value| value.strip_prefix("Bearer "));
    let key = match inner.options.key_headers {
        KeyHeaders::All => plain.filter(|plain| Some(*plain) == bearer),
        KeyHeaders::Either => plain.or(bearer),
        KeyHeaders::OnlyApiKey => plain,
        KeyHeaders::OnlyBearer => bearer,
    };
    let key = key.ok_or_else(missing)?;
    let state = inner.state();
    let mut services = state.services.iter();
    if services.clone().any(|one| one.id == id && one.hollow) {
        let message = "服务没有密钥记录";
        return Err(Refusal::new(500, "InternalError", message));
    }
    let service = services
        .find(|service| service.api_key == key && service.id == id)
        .ok_or_else(|| Refusal::new(401, "Unauthorized", "API Key 无效或已被吊销"))?;
    if service.id != sid {
        return Err(Refusal::new(403, "Forbidden", "无权访问该服务"));
    }
    Ok(key.to_owned())
}

/// The Server's error answer.
pub fn refused(refusal: &Refusal) -> Response {
    let body: Value = json!({"error": refusal.code, "message": refusal.message});
    Response::json(refusal.status, &body)
}
