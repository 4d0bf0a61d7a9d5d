//! What a proxy, or a relay between agent and Server, can do to a call: nothing of it stops the heartbeats, and nothing
//! makes a call that may have arrived look as if it hadn't.

use crate::relay::Relay;
use crate::support::agent::Agent;
use crate::support::docker::wait_until;
use crate::support::secs;
use crate::support::server::{FakeServer, Options};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

/// Listens on a port of 127.0.0.1 for as long as the test runs, and returns the address and how many clients came.
fn listen(handle: impl Fn(TcpStream) + Send + Sync + 'static) -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("listen");
    let (address, count) = (listener.local_addr().expect("an address"), Arc::<AtomicUsize>::default());
    let (counted, handle) = (Arc::clone(&count), Arc::new(handle));
    thread::spawn(move || {
        for client in listener.incoming().flatten() {
            counted.fetch_add(1, Ordering::SeqCst);
            let handle = Arc::clone(&handle);
            thread::spawn(move || handle(client));
        }
    });
    (address, count)
}

const USE_PROXY: &str = "[server]\nuse_system_proxy = true";

#[test]
fn a_proxy_that_trickles_its_answer_to_connect_stops_no_heartbeat() {
    let (proxy, connections) = listen(|mut client| {
        let _ = client.write_all(b"HTTP/1.1 200 Connection established\r\nX-Filler: ");
        while client.write_all(b"x").is_ok() {
            thread::sleep(Duration::from_millis(500));
        }
    });
    let server = FakeServer::start();
    let agent = Agent::builder(&server).without_engine().env("HTTP_PROXY", format!("http://{proxy}"));
    let agent = agent.config(USE_PROXY).build();
    let mut running = agent.start();
    running.wait_log("the Server can't be reached: no connection in time", secs(20));
    wait_until("other tries", secs(30), || connections.load(Ordering::SeqCst) >= 3);
    assert!(running.is_running());
    agent.run(&["check"]).expect_code(1).expect_stdout("no connection in time");
}

#[test]
fn a_proxy_that_refuses_connect_is_named_with_what_helps() {
    let (proxy, _) = listen(|client| {
        // All of the request is read: closing a connection with unread bytes resets it, and the answer may be lost.
        let lines = BufReader::new(&client).lines();
        lines.map_while(Result::ok).take_while(|line| !line.is_empty()).for_each(drop);
        let _ = (&client).write_all(b"HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n");
    });
    let server = FakeServer::start();
    let agent = Agent::builder(&server).without_engine().env("HTTP_PROXY", format!("http://{proxy}"));
    let agent = agent.config(USE_PROXY).build();
    let mut running = agent.start();
    running.wait_log("403", secs(20));
    running.wait_log("let it allow CONNECT to the Server's host and port", secs(20));
    let done = agent.run(&["check"]);
    done.expect_code(1)
        .expect_stdout("403")
        .expect_stdout("let it allow CONNECT")
        .expect_stdout("lets the agent CONNECT");
}

#[test]
fn no_proxy_excepts_a_network_and_a_port() {
    let (server, proxy) = (FakeServer::start(), Relay::proxy());
    let port = server.url().rsplit(':').next().expect("a port").to_owned();
    for list in ["127.0.0.0/8".to_owned(), format!("127.0.0.1:{port}"), "localhost 127.0.0.1".to_owned()] {
        let agent = Agent::builder(&server).without_engine().env("HTTP_PROXY", proxy.url()).env("NO_PROXY", &*list);
        let agent = agent.config(USE_PROXY).build();
        let done = agent.run(&["check"]);
        done.expect_stdout("NO_PROXY excepts the Server").expect_stdout("the Server accepts the key");
    }
    assert_eq!(proxy.notes(), [""; 0]);
}

/// Copies the records of TLS (RFC 8446, 5.1) up to the first with a part of a request, then answers in plain text: the
/// client's first record of application data is the end of its handshake.
fn inject(client: TcpStream, server: SocketAddr) -> io::Result<()> {
    let (mut from_client, mut to_client) = (client.try_clone()?, client);
    let server = TcpStream::connect(server)?;
    let (mut to_server, mut from_server) = (server.try_clone()?, server);
    let mut answer = to_client.try_clone()?;
    thread::spawn(move || io::copy(&mut from_server, &mut to_client));
    let mut encrypted = 0;
    loop {
        let mut record = vec![0; 5];
        from_client.read_exact(&mut record)?;
        record.resize(5 + usize::from(u16::from_be_bytes([record[3], record[4]])), 0);
        from_client.read_exact(&mut record[5..])?;
        encrypted += usize::from(record[0] == 23);
        if encrypted == 2 {
            // Before the request is passed on, so that the answer comes after this.
            answer.write_all(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")?;
        }
        to_server.write_all(&record)?;
    }
}

#[test]
fn plain_text_after_the_handshake_is_a_lost_answer() {
    let server = FakeServer::start_with(Options { https: true, ..Options::default() });
    let target = server.url().split('/').nth(2).expect("an authority").parse().expect("an address");
    let (relay, _) = listen(move |client| drop(inject(client, target)));
    let settings = format!("[server]\nbase_url = 'https://{relay}'");
    let ca = server.ca_pem().to_string_lossy().into_owned();
    let agent = Agent::builder(&server).without_engine().config(&settings).env("SSL_CERT_FILE", ca).build();
    let mut running = agent.start();
    running.wait_log("no usable answer from the Server", secs(20));
    let log = running.log();
    assert!(!log.contains("Server can't be reached") && !log.contains("doesn't speak https"), "{log}");
}

/// Connections to a port whose queue is full get no answer, as through a firewall that drops packets.
#[test]
fn a_call_that_was_never_sent_is_not_one_without_an_answer() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("listen");
    let address = listener.local_addr().expect("an address");
    let connect = || TcpStream::connect_timeout(&address, Duration::from_millis(200));
    let queued: Vec<TcpStream> = std::iter::from_fn(|| connect().ok()).take(10_000).collect();
    assert!(queued.len() < 10_000, "the queue has an end");
    let server = FakeServer::start();
    let agent = Agent::builder(&server).without_engine().config(&format!("[server]\nbase_url = 'http://{address}'"));
    let agent = agent.build();
    let mut running = agent.start();
    running.wait_log("the Server can't be reached: no connection in time", secs(30));
    assert!(!running.log().contains("no usable answer"), "{}", running.log());
    drop(queued);
}
