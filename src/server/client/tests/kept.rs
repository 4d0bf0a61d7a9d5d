//! Tests of connections that the Server keeps between two calls, and of those that it closes just then.

use super::{Call, LOAD, SMALL_CALLS, client, download, upload};
use crate::config::{Config, ServerConfig};
use crate::server::protocol::AgentStatus;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// Longer than a connection is used again without a word of the Server.
const IDLE: Duration = Duration::from_millis(2500);

/// The requests that have arrived: the number of the connection, and the last part of the path.
type Arrived = Arc<Mutex<Vec<(usize, String)>>>;

/// Answers this many requests of each connection, with the header, and closes it when it has the next one.
fn serve(header: &'static str, answered: usize) -> (ServerConfig, Arrived) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let arrived = Arrived::default();
    let shared = Arc::clone(&arrived);
    thread::spawn(move || {
        for (number, stream) in listener.incoming().flatten().enumerate() {
            let arrived = Arc::clone(&shared);
            thread::spawn(move || answer(&stream, number, &arrived, header, answered));
        }
    });
    let text = format!("[server]\nbase_url='http://{address}'\n");
    (Config::parse(Path::new("/nonexistent/config.toml"), &text).unwrap().server, arrived)
}

fn answer(stream: &TcpStream, number: usize, arrived: &Arrived, header: &str, mut left: usize) -> io::Result<()> {
    let mut reader = BufReader::new(stream);
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Ok(());
        }
        let path = line.split(' ').nth(1).unwrap_or_default();
        let name = path.trim_end_matches("/t").rsplit('/').next().unwrap_or_default().to_owned();
        arrived.lock().unwrap().push((number, name.clone()));
        let mut length = 0;
        while line != "\r\n" {
            line.clear();
            if reader.read_line(&mut line)? == 0 {
                return Ok(());
            }
            let lower = line.to_ascii_lowercase();
            length = lower.strip_prefix("content-length:").map_or(length, |text| text.trim().parse().unwrap());
        }
        io::copy(&mut reader.by_ref().take(length), &mut io::sink())?;
        if left == 0 {
            return Ok(());
        }
        left -= 1;
        let body = match name.as_str() {
            "heartbeat" => "{\"acknowledged\":true}",
            "poll" => "{\"has_task\":false}",
            "upload" => "{\"file_id\":\"f-1\"}",
            "list" => "{\"files\":[]}",
            "download" => "x",
            _ => "{\"success\":true,\"task_id\":\"t\"}",
        };
        let length = body.len();
        let answer = format!(
            "HTTP/1.1 200 OK\r\n{header}Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
        );
        let mut stream = stream;
        stream.write_all(answer.as_bytes())?;
    }
}

fn named(arrived: &Arrived) -> Vec<(usize, String)> {
    arrived.lock().unwrap().clone()
}

fn at(connection: usize, name: &str) -> (usize, String) {
    (connection, name.to_owned())
}

#[test]
fn a_connection_is_kept_as_long_as_the_server_says() {
    for (header, second) in [("Keep-Alive: timeout=3600\r\n", 0), ("", 1), ("Keep-Alive: timeout=2\r\n", 1)] {
        let (server, arrived) = serve(header, 100);
        let client = client(&server);
        client.heartbeat(AgentStatus::Online, LOAD, None).unwrap();
        thread::sleep(IDLE);
        client.poll(LOAD, Duration::from_secs(10)).unwrap();
        assert_eq!(named(&arrived), [at(0, "heartbeat"), at(second, "poll")], "{header}");
    }
}

/// An accept whose answer is lost can't be told from a lost race.
#[test]
fn calls_that_must_not_be_repeated_take_no_old_connection() {
    let (server, arrived) = serve("Keep-Alive: timeout=3600\r\n", 100);
    let client = client(&server);
    client.heartbeat(AgentStatus::Online, LOAD, None).unwrap();
    thread::sleep(IDLE);
    client.accept("t").unwrap();
    assert_eq!(named(&arrived), [at(0, "heartbeat"), at(1, "accept")]);
}

#[test]
fn a_connection_that_the_server_closes_just_then_fails_no_call() {
    let others: [(&str, Call); 1] = [("download", |client| client.download("t", 1, &mut io::sink(), &0.into()))];
    let repeated = |(name, _): &(&str, Call)| matches!(*name, "heartbeat" | "poll" | "list");
    for (name, call) in SMALL_CALLS.into_iter().filter(repeated).chain(others) {
        let (server, arrived) = serve("Keep-Alive: timeout=3600\r\n", 1);
        let client = client(&server);
        client.heartbeat(AgentStatus::Online, LOAD, None).unwrap();
        call(&client).unwrap();
        assert_eq!(named(&arrived), [at(0, "heartbeat"), at(0, name), at(1, name)]);
    }
}

#[test]
fn a_call_with_an_effect_is_not_repeated_on_a_new_connection() {
    let others: [(&str, Call); 1] = [("upload", upload)];
    let once = |(name, _): &(&str, Call)| matches!(*name, "accept" | "complete");
    for (name, call) in SMALL_CALLS.into_iter().filter(once).chain(others) {
        let (server, arrived) = serve("Keep-Alive: timeout=3600\r\n", 1);
        let client = client(&server);
        client.heartbeat(AgentStatus::Online, LOAD, None).unwrap();
        // On a slow machine the kept connection is too old, and a new one is answered.
        let _ = call(&client);
        let count = named(&arrived).iter().filter(|(_, arrived)| arrived == name).count();
        assert_eq!(count, 1, "{name}");
    }
}

/// The Server's answers may not arrive at all: no call is repeated without end.
#[test]
fn a_call_is_repeated_once_and_not_on_a_new_connection() {
    let (server, arrived) = serve("", 0);
    let client = client(&server);
    client.poll(LOAD, Duration::from_secs(10)).unwrap_err();
    assert_eq!(named(&arrived), [at(0, "poll")]);
    download(&client).unwrap_err();
    assert_eq!(named(&arrived).len(), 2);
}
