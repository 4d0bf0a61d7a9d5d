//! A scripted model endpoint in both API styles that the image uses.
//!
//! It is a fake Server with other routes, so the same faults can be scripted.

use crate::support::server::{Control, FakeServer, Options, Request, Response};
use serde_json::{Value, json};
use std::ops::Deref;
use std::sync::Arc;

/// The key that the endpoint accepts.
pub const KEY: &str = "sk-test-0123456789abcdef";

/// One message of the model.
#[derive(Clone)]
pub enum Say {
    Text(String),
    /// Calls of a tool, by name and arguments, after some words.
    Tool(&'static str, Value),
    /// A text that is cut at the limit of output tokens.
    CutOff(&'static str),
    Empty,
}

/// A text.
pub fn say(text: impl Into<String>) -> Say {
    Say::Text(text.into())
}

/// A call of the shell.
pub fn bash(command: impl Into<String>) -> Say {
    Say::Tool("bash", json!({"command": command.into()}))
}

/// The API style.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    OpenAi,
    Anthropic,
}

/// A running endpoint.
pub struct Model {
    server: FakeServer,
    pub style: Style,
}

impl Model {
    /// Answers with these messages in order, and with `formatted` to a request without tools.
    pub fn start(style: Style, turns: Vec<Say>, formatted: Option<Say>) -> Self {
        Self::start_with(style, turns, formatted, Options::default())
    }

    /// The same over https, with a private authority.
    pub fn start_https(turns: Vec<Say>) -> Self {
        Self::start_with(Style::OpenAi, turns, None, Options { https: true, ..Options::default() })
    }

    fn start_with(style: Style, turns: Vec<Say>, formatted: Option<Say>, options: Options) -> Self {
        let answer = move |_: &Control, request: &Request| {
            let is_openai = request.is("chat");
            let key = match is_openai {
                true => request.headers.get("authorization").and_then(|value| value.strip_prefix("Bearer ")),
                false => request.headers.get("x-api-key"),
            };
            if key != Some(KEY) {
                let message = format!("Incorrect API key provided: {}", key.unwrap_or_default());
                return Some(Response::json(401, &json!({"error": {"message": message, "type": "auth"}})));
            }
            let next = match request.body["tools"].as_array().is_none_or(Vec::is_empty) {
                true => formatted.as_ref(),
                false => turns.get(messages_of(&request.body, "assistant").len()),
            };
            let Some(next) = next else {
                return Some(Response::json(400, &json!({"error": {"message": "the test's script has no more"}})));
            };
            let body = if is_openai { openai(next) } else { anthropic(next) };
            Some(Response::streamed("text/event-stream", body))
        };
        let options = Options { extra_routes: Some(Arc::new(answer)), ..options };
        Self { server: FakeServer::start_with(options), style }
    }

    /// pi's `models.json` for it.
    pub fn models_json(&self) -> String {
        let (api, base_url) = match self.style {
            Style::OpenAi => ("openai-completions", format!("{}/v1", self.url())),
            Style::Anthropic => ("anthropic-messages", self.url()),
        };
        let provider = json!({"baseUrl": base_url, "api": api, "apiKey": "$LLM_API_KEY", "models": [{"id": "m"}]});
        json!({"providers": {"scripted": provider}}).to_string()
    }

    /// What was asked, in order.
    pub fn asked(&self) -> Vec<Value> {
        self.requests().into_iter().map(|request| request.body).collect()
    }
}

impl Deref for Model {
    type Target = FakeServer;

    fn deref(&self) -> &FakeServer {
        &self.server
    }
}

/// The texts of all messages of a role in a request, one string a message.
pub fn messages_of(body: &Value, role: &str) -> Vec<String> {
    let messages = body["messages"].as_array().into_iter().flatten();
    let of_role = messages.filter(|message| message["role"] == role);
    of_role.map(|message| text_of(&message["content"])).collect()
}

/// The system prompt of a request, in either style.
pub fn system_of(body: &Value) -> String {
    let mut texts = messages_of(body, "system");
    texts.extend(messages_of(body, "developer"));
    texts.push(text_of(&body["system"]));
    texts.concat()
}

fn text_of(content: &Value) -> String {
    match content {
        Value::String(text) => text.clone(),
        Value::Array(parts) => {
            let texts = parts.iter().map(|part| match &part["text"] {
                Value::String(text) => text.clone(),
                _ => text_of(&part["content"]),
            });
            texts.collect()
        }
        _ => String::new(),
    }
}

fn openai(next: &Say) -> String {
    let chunk = |delta: Value, reason: Value, usage: Value| {
        let choice = json!({"index": 0, "delta": delta, "finish_reason": reason});
        let chunk = json!({"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "m",
                           "choices": [choice], "usage": usage});
        format!("data: {chunk}\n\n")
    };
    let usage = json!({"prompt_tokens": 100, "completion_tokens": 7, "total_tokens": 107});
    let (delta, reason) = match next {
        Say::Text(text) => (json!({"role": "assistant", "content": text}), "stop"),
        Say::CutOff(text) => (json!({"role": "assistant", "content": text}), "length"),
        Say::Empty => (json!({"role": "assistant", "content": ""}), "stop"),
        Say::Tool(name, arguments) => {
            let function = json!({"name": name, "arguments": arguments.to_string()});
            let call = json!({"index": 0, "id": "call_1", "type": "function", "function": function});
            (json!({"role": "assistant", "content": "I use a tool.", "tool_calls": [call]}), "tool_calls")
        }
    };
    chunk(delta, Value::Null, Value::Null) + &chunk(json!({}), json!(reason), usage) + "data: [DONE]\n\n"
}

fn anthropic(next: &Say) -> String {
    let event = |kind: &str, mut data: Value| {
        data["type"] = json!(kind);
        format!("event: {kind}\ndata: {data}\n\n")
    };
    let block = |content: Value, delta: Value| {
        event("content_block_start", json!({"index": 0, "content_block": content}))
            + &event("content_block_delta", json!({"index": 0, "delta": delta}))
            + &event("content_block_stop", json!({"index": 0}))
    };
    let text = |text: &str| block(json!({"type": "text", "text": ""}), json!({"type": "text_delta", "text": text}));
    let (blocks, reason) = match next {
        Say::Text(words) => (text(words), "end_turn"),
        Say::CutOff(words) => (text(words), "max_tokens"),
        Say::Empty => (String::new(), "end_turn"),
        Say::Tool(name, arguments) => {
            let call = json!({"type": "tool_use", "id": "toolu_1", "name": name, "input": {}});
            (block(call, json!({"type": "input_json_delta", "partial_json": arguments.to_string()})), "tool_use")
        }
    };
    let message = json!({"id": "m1", "type": "message", "role": "assistant", "model": "m", "content": [],
                         "stop_reason": null, "usage": {"input_tokens": 100, "output_tokens": 1}});
    event("message_start", json!({"message": message}))
        + &blocks
        + &event("message_delta", json!({"delta": {"stop_reason": reason}, "usage": {"output_tokens": 7}}))
        + &event("message_stop", json!({}))
}
