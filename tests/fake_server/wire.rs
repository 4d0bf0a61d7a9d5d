//! Details of the wire: framing, addresses and fields.

use crate::client::{Client, DEADLINE, FORM, connect, exchange, form};
use crate::server::{EmptyPoll, FakeServer, Options, TaskSpec};
use serde_json::{Value, json};
use std::fs;
use std::io::Read;
use std::time::Duration;
use ureq::tls::{Certificate, RootCerts, TlsConfig};

#[test]
fn an_offer_has_its_inputs_and_unknown_fields() {
    let server = FakeServer::start();
    let client = Client::new(&server);
    let spec = TaskSpec::new("数一数").output_prompt("as CSV").session("s-1").input("数据.csv", "a,b\n");
    let id = server.submit(spec);
    let task = client.poll()["task"].clone();
    assert_eq!(task["id"], id.as_str());
    assert!(id.starts_with(server.task_prefix()));
    assert_eq!(task["task_prompt"], "数一数");
    assert_eq!(task["output_prompt"], "as CSV");
    assert_eq!(task["session_id"], "s-1");
    assert_eq!(task["input_files"][0]["filename"], "数据.csv");
    assert_eq!(task["input_files"][0]["size_bytes"], 4);
    assert!(task.get("priority").is_some(), "unknown fields are to be ignored");
}

#[test]
fn nullable_fields_are_null_or_absent_in_turn() {
    let server = FakeServer::start();
    let client = Client::new(&server);
    let mut forms = Vec::new();
    for _ in 0..2 {
        let id = server.submit(TaskSpec::new("run"));
        forms.push(client.poll()["task"].get("output_prompt").cloned());
        client.accept(&id);
    }
    forms.sort_by_key(Option::is_some);
    assert_eq!(forms, [None, Some(Value::Null)]);
}

#[test]
fn an_offer_can_have_any_content() {
    let server = FakeServer::start();
    let client = Client::new(&server);
    server.submit_raw("../../etc", json!({"id": "../../etc", "task_prompt": 7}));
    assert_eq!(client.poll()["task"], json!({"id": "../../etc", "task_prompt": 7}));
    assert_eq!(client.accept("../../etc").status, 200);
}

#[test]
fn offers_can_be_paused() {
    let server = FakeServer::start();
    let client = Client::new(&server);
    let id = server.submit(TaskSpec::new("run"));
    server.pause_offering(true);
    assert_eq!(client.offered(), None);
    server.pause_offering(false);
    assert_eq!(client.offered(), Some(id));
}

#[test]
fn an_empty_poll_can_be_204() {
    let server = FakeServer::start_with(Options { empty_poll: EmptyPoll::NoContent, ..Options::default() });
    let client = Client::new(&server);
    let reply = client.try_poll().expect("an answer");
    assert_eq!((reply.status, reply.bytes.len()), (204, 0));
    let id = server.submit(TaskSpec::new("run"));
    assert_eq!(client.offered(), Some(id));
}

#[test]
fn a_download_is_streamed_without_a_length() {
    let server = FakeServer::start();
    let client = Client::new(&server);
    let bytes: Vec<u8> = (0..200_000_u32).flat_map(u32::to_le_bytes).collect();
    let id = server.submit(TaskSpec::new("run").input("a.bin", bytes.clone()).input("empty", ""));
    let download = |index: usize| client.get(&format!("{}/download", server.files(&id)[index].id));
    let reply = download(0);
    assert_eq!(reply.status, 200);
    assert_eq!(reply.header("content-length"), None);
    assert_eq!(reply.header("transfer-encoding"), Some("chunked"));
    assert!(reply.bytes == bytes);
    assert!(download(1).bytes.is_empty());
}

#[test]
fn an_upload_keeps_its_bytes_and_its_name() {
    let server = FakeServer::start();
    let client = Client::new(&server);
    let id = client.running_task(&server);
    let tricky = b"\r\n--\r\n------limit\r\n\r\n\n------limit6\r\nx\r\n".to_vec();
    for (name, bytes) in [("output/a b.md", tricky), ("报告 \u{1f600}.txt", Vec::new()), ("zeros", vec![0; 300_000])]
    {
        let reply = client.upload(&id, name, &bytes);
        assert_eq!(reply.status, 200);
        assert_eq!(reply.json()["filename"], name);
        assert_eq!(reply.json()["size_bytes"], bytes.len());
        assert!(server.output(&id, name).bytes == bytes, "{name}");
    }
    let list = client.get(&format!("list/{id}")).json();
    let names: Vec<&str> =
        list["files"].as_array().expect("files").iter().filter_map(|file| file["filename"].as_str()).collect();
    assert_eq!(names, ["output/a b.md", "报告 \u{1f600}.txt", "zeros"]);
    assert_eq!(list["files"][0]["created_by"], "agent");
    let request = &server.requests_to("upload")[0];
    assert!(request.about(&id));
    assert_eq!(request.filename.as_deref(), Some("output/a b.md"));
    assert!(request.body.is_null());
}

#[test]
fn an_upload_must_name_its_task_first() {
    let server = FakeServer::start();
    let client = Client::new(&server);
    let id = client.running_task(&server);
    let upload = |body: Vec<u8>| {
        let body = Some((FORM, body));
        client.request("POST", &client.upload_path(), &client.headers(), body).expect("an answer").status
    };
    assert_eq!(upload(form(&[("file", Some("a"), b"1"), ("task_id", None, id.as_bytes())])), 400);
    assert_eq!(upload(form(&[("task_id", None, id.as_bytes())])), 400);
    assert_eq!(upload(form(&[("task_id", None, id.as_bytes()), ("file", None, b"1")])), 400);
    assert!(server.outputs(&id).is_empty());
}

#[test]
fn bodies_may_be_chunked() {
    let server = FakeServer::start();
    let client = Client::new(&server);
    let mut request = format!("POST /api/v1/agent/{}/heartbeat HTTP/1.1\r\nhost: x\r\n", client.sid);
    for (name, value) in client.headers() {
        request.push_str(&format!("{name}: {value}\r\n"));
    }
    request.push_str("content-type: application/json\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n");
    let body = json!({"status": "online", "current_load": 0, "capacity": 1, "available_capacity": 1}).to_string();
    let (first, second) = body.split_at(10);
    for chunk in [first, second, ""] {
        request.push_str(&format!("{:x}\r\n{chunk}\r\n", chunk.len()));
    }
    let answer = exchange(&mut connect(&server), request.as_bytes()).expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert_eq!(server.heartbeats()[0].body["capacity"], 1);
}

#[test]
fn a_body_that_is_not_json_is_refused() {
    let server = FakeServer::start();
    let client = Client::new(&server);
    let path = format!("/api/v1/agent/{}/poll", client.sid);
    for (kind, body, status) in [("application/json", "{", 400), ("text/plain", "{}", 415)] {
        let body = Some((kind, body.as_bytes().to_vec()));
        let reply = client.request("POST", &path, &client.headers(), body).expect("an answer");
        assert_eq!(reply.status, status);
        assert!(reply.json()["error"].is_string());
    }
}

#[test]
fn the_base_url_may_have_a_path() {
    let prefix = "/lab/aaas".to_owned();
    let server = FakeServer::start_with(Options { path_prefix: prefix, ..Options::default() });
    let client = Client::new(&server);
    assert!(server.url().ends_with("/lab/aaas"));
    assert_eq!(client.offered(), None);
    let outside = Client { url: server.url().replace("/lab/aaas", ""), ..client };
    assert_eq!(outside.try_poll().expect("an answer").status, 404);
}

#[test]
fn https_has_a_certificate_of_a_private_authority() {
    let server = FakeServer::start_with(Options { https: true, ..Options::default() });
    let client = Client::new(&server);
    assert!(client.url.starts_with("https://127.0.0.1:"));
    let authority = fs::read(server.ca_pem()).expect("read the authority's certificate");
    let authority = Certificate::from_pem(&authority).expect("a certificate");
    let with = |roots: RootCerts| {
        let config = ureq::Agent::config_builder()
            .proxy(None)
            .timeout_global(Some(DEADLINE))
            .tls_config(TlsConfig::builder().root_certs(roots).build())
            .build();
        Client { agent: config.into(), ..client.clone() }
    };
    assert_eq!(with(RootCerts::from(vec![authority])).offered(), None);
    let stranger = FakeServer::start_with(Options { https: true, ..Options::default() });
    let other = fs::read(stranger.ca_pem()).expect("read the other authority's certificate");
    let other = Certificate::from_pem(&other).expect("a certificate");
    assert!(with(RootCerts::from(vec![other])).try_poll().is_err());
}

#[test]
fn an_idle_connection_is_closed() {
    let idle_timeout = Duration::from_millis(30);
    let server = FakeServer::start_with(Options { idle_timeout, ..Options::default() });
    let mut end = Vec::new();
    connect(&server).read_to_end(&mut end).expect("the connection's end");
    assert!(end.is_empty());
}
