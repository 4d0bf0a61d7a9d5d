//! Tests of the time limits of calls, and of what calls say about the Server, with a listener on this machine.

mod kept;

use super::{Client, Upload, register};
use crate::config::{Config, Credentials, Secret, ServerConfig};
use crate::server::protocol::{AgentStatus, CompleteRequest, FinalStatus, Load, Output};
use crate::server::{ClientError, PollAnswer};
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::AtomicU64;
use std::thread;
use std::time::{Duration, Instant};

const LOAD: Load = Load { current: 0, capacity: 1, available: 1 };

/// A server on this machine that handles each connection so, for as long as the test runs.
fn listen(handle: impl Fn(TcpStream) -> io::Result<()> + Send + Copy + 'static) -> ServerConfig {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || handle(stream));
        }
    });
    let text = format!("[server]\nbase_url='http://{address}'\n");
    Config::parse(Path::new("/nonexistent/config.toml"), &text).unwrap().server
}

fn client(server: &ServerConfig) -> Client {
    let credentials = Credentials { service_id: "s".to_owned(), api_key: Secret::new("ak_12345678") };
    Client::new(server, credentials, Default::default())
}

/// Writes one byte after the other, without end.
fn trickle(mut stream: TcpStream, begin: &[u8]) -> io::Result<()> {
    let _ = stream.read(&mut [0; 4096])?;
    stream.write_all(begin)?;
    loop {
        stream.write_all(b"x")?;
        thread::sleep(Duration::from_millis(500));
    }
}

fn in_the_head(stream: TcpStream) -> io::Result<()> {
    trickle(stream, b"HTTP/1.1 200 OK\r\nX-Filler: ")
}

fn in_the_body(stream: TcpStream) -> io::Result<()> {
    trickle(stream, b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 60000\r\n\r\n{\"x\":\"")
}

fn complete(client: &Client) -> Result<(), ClientError> {
    let request = CompleteRequest {
        task_id: "t",
        status: FinalStatus::Completed,
        output: Output::default(),
        error_message: None,
        file_ids: Vec::new(),
    };
    client.complete(&request.encode())
}

fn upload(client: &Client) -> Result<(), ClientError> {
    let file = tempfile::tempfile().unwrap();
    let upload = Upload { task_id: "t", filename: "a", file: &file, size: 0, bytes_read: &AtomicU64::new(0) };
    client.upload(&upload).map(drop)
}

fn download(client: &Client) -> Result<(), ClientError> {
    client.download("f", 60_000, &mut io::sink(), &AtomicU64::new(0))
}

type Call = fn(&Client) -> Result<(), ClientError>;
const SMALL_CALLS: [(&str, Call); 5] = [
    ("heartbeat", |client| client.heartbeat(AgentStatus::Online, LOAD, None)),
    ("poll", |client| client.poll(LOAD, Duration::from_secs(10)).map(|_: PollAnswer| ())),
    ("accept", |client| client.accept("t").map(drop)),
    ("complete", complete),
    ("list", |client| client.list_files("t", &mut |_| Ok(()))),
];

/// The download of a trickled body is ended by the task's step, which knows how fast it is.
#[test]
fn an_answer_that_trickles_ends_every_call_in_time() {
    let (in_the_head, in_the_body) = (listen(in_the_head), listen(in_the_body));
    let small = SMALL_CALLS
        .into_iter()
        .flat_map(|(name, call)| [&in_the_head, &in_the_body].map(|server| (server.clone(), name, call, 12)));
    let transfers: [(_, _, Call, _); 3] = [
        (in_the_head.clone(), "upload", upload, 50),
        (in_the_head.clone(), "download", download, 50),
        (in_the_body.clone(), "upload", upload, 12),
    ];
    let calls: Vec<_> = small.chain(transfers).collect();
    let begin = |(server, name, call, limit): (ServerConfig, _, Call, _)| {
        let made = thread::spawn(move || {
            let began = Instant::now();
            (call(&client(&server)), began.elapsed())
        });
        (name, limit, made)
    };
    let made: Vec<_> = calls.into_iter().map(begin).collect();
    for (name, limit, made) in made {
        let (result, took) = made.join().unwrap();
        assert!(matches!(result, Err(ClientError::Lost(_))), "{name}: {result:?}");
        assert!(took < Duration::from_secs(limit), "{name} took {took:?}");
    }
}

/// Answers an upload as soon as its headers are here, and one without `Expect` when it has ended.
fn answer_at_once(stream: TcpStream) -> io::Result<()> {
    answer_early(stream, "{\"file_id\":\"f-1\"}")
}

/// The same with what is no answer of the Server.
fn misanswer_at_once(stream: TcpStream) -> io::Result<()> {
    answer_early(stream, "<html></html>")
}

/// Answers an upload with this body if its headers have `Expect`, and else with an id when it has ended.
fn answer_early(mut stream: TcpStream, early: &str) -> io::Result<()> {
    let (mut request, mut buffer) = (Vec::new(), [0; 64 * 1024]);
    let is_over = |request: &[u8]| {
        let text = String::from_utf8_lossy(request).to_ascii_lowercase();
        text.contains("\r\n\r\n") && (text.contains("expect: 100-continue") || text.trim_end().ends_with("--"))
    };
    while !is_over(&request) {
        match stream.read(&mut buffer)? {
            0 => return Ok(()),
            count => request.extend_from_slice(&buffer[..count]),
        }
    }
    let is_whole = String::from_utf8_lossy(&request).trim_end().ends_with("--");
    let body = if is_whole { "{\"file_id\":\"f-1\"}" } else { early };
    write!(stream, "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

/// Something before the Server answers in its place: the file counted as delivered, and nothing of it had left.
#[test]
fn a_file_that_was_not_sent_has_not_arrived() {
    for server in [listen(answer_at_once), listen(misanswer_at_once)] {
        expect_a_second_try_without_expect(&client(&server));
    }
}

fn expect_a_second_try_without_expect(client: &Client) {
    let size = super::EXPECT_FROM;
    let file = tempfile::tempfile().unwrap();
    file.set_len(size).unwrap();
    let send = || {
        let taken = AtomicU64::new(0);
        let upload = Upload { task_id: "t", filename: "a", file: &file, size, bytes_read: &taken };
        (client.upload(&upload), taken.into_inner())
    };
    let (answer, taken) = send();
    assert!(matches!(answer, Err(ClientError::Lost(_))) && taken == 0, "{answer:?} after {taken} bytes");
    let (answer, taken) = send();
    assert_eq!((answer.unwrap().as_str(), taken), ("f-1", size), "sent without `Expect`");
}

#[test]
fn a_registration_whose_answer_trickles_ends() {
    let server = listen(in_the_body);
    let began = Instant::now();
    assert!(matches!(register(&server, "rt_12345678", 1), Err(ClientError::Lost(_))));
    assert!(began.elapsed() < Duration::from_secs(35), "{:?}", began.elapsed());
}

fn acknowledge(mut stream: TcpStream) -> io::Result<()> {
    let _ = stream.read(&mut [0; 4096])?;
    stream.write_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 21\r\n\r\n{\"acknowledged\":true}")
}

fn refuse(mut stream: TcpStream) -> io::Result<()> {
    let _ = stream.read(&mut [0; 4096])?;
    stream.write_all(b"HTTP/1.1 401 Unauthorized\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
}

#[test]
fn a_server_answers_until_a_call_finds_that_every_call_would_fail() {
    let heartbeat = |client: &Client| client.heartbeat(AgentStatus::Online, LOAD, None);
    let answering = client(&listen(acknowledge));
    let worker = answering.with_own_connections();
    assert!(!worker.is_answering(), "no heartbeat was acknowledged");
    heartbeat(&answering).unwrap();
    assert!(worker.is_answering());
    worker.accept("t").unwrap_err();
    assert!(worker.is_answering(), "that says nothing about other calls");

    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for (server, is_refused) in [(listen(refuse), true), (listen(acknowledge), false)] {
        let mut other = client(&server);
        other.is_answering = std::sync::Arc::clone(&answering.is_answering);
        heartbeat(&answering).unwrap();
        if !is_refused {
            let text = format!("[server]\nbase_url='http://{closed}'\n");
            let unreachable = Config::parse(Path::new("/nonexistent/config.toml"), &text).unwrap().server;
            other.connection = client(&unreachable).connection;
        }
        other.accept("t").unwrap_err();
        assert!(!worker.is_answering(), "refused: {is_refused}");
    }
    heartbeat(&answering).unwrap();
    assert!(worker.is_answering());
}
