//! A relay between agent and Server: it records the connections and copies the bytes.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

/// The target of the bytes.
#[derive(Clone, Copy)]
enum Kind {
    /// The target that `CONNECT` names: the relay is an HTTP proxy.
    Proxy,
    /// This address.
    To(SocketAddr),
}

/// A listening relay. It stops when it is dropped. A connection is closed when one of its sides closes.
pub struct Relay {
    address: SocketAddr,
    notes: Arc<Mutex<Vec<String>>>,
    ending: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Relay {
    /// An HTTP proxy. It records the first line of each request.
    pub fn proxy() -> Self {
        Self::start(Kind::Proxy)
    }

    /// Connects every client to this address. It records one note per connection.
    pub fn to(url: &str) -> Self {
        let authority = url.split('/').nth(2).expect("a URL has an authority");
        Self::start(Kind::To(authority.parse().expect("the authority is an address and a port")))
    }

    fn start(kind: Kind) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bind a port of 127.0.0.1");
        let address = listener.local_addr().expect("the listener has an address");
        let (notes, ending) = (Arc::<Mutex<Vec<String>>>::default(), Arc::<AtomicBool>::default());
        let (noted, ended) = (Arc::clone(&notes), Arc::clone(&ending));
        let thread = thread::spawn(move || {
            while let Ok((client, _)) = listener.accept() {
                if ended.load(Ordering::SeqCst) {
                    break;
                }
                let noted = Arc::clone(&noted);
                // Errors of a connection are handled by its two ends.
                thread::spawn(move || drop(pass_on(client, kind, &noted)));
            }
        });
        Self { address, notes, ending, thread: Some(thread) }
    }

    /// The address and port.
    pub fn authority(&self) -> String {
        self.address.to_string()
    }

    /// The URL for a proxy variable.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The notes so far.
    pub fn notes(&self) -> Vec<String> {
        self.notes.lock().expect("no thread panics with this lock").clone()
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.ending.store(true, Ordering::SeqCst);
        // The thread checks the flag after each connection, so one more connection wakes it.
        let _ = TcpStream::connect(self.address);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn pass_on(client: TcpStream, kind: Kind, notes: &Mutex<Vec<String>>) -> io::Result<()> {
    let mut from_client = BufReader::new(client.try_clone()?);
    let mut to_client = client;
    let target = match kind {
        Kind::To(address) => {
            notes.lock().expect("no thread panics with this lock").push("a connection".to_owned());
            TcpStream::connect(address)?
        }
        Kind::Proxy => {
            let mut first = String::new();
            from_client.read_line(&mut first)?;
            let mut line = String::from("-");
            while !line.trim().is_empty() {
                line.clear();
                from_client.read_line(&mut line)?;
            }
            notes.lock().expect("no thread panics with this lock").push(first.trim().to_owned());
            let Some(authority) = first.strip_prefix("CONNECT ").and_then(|rest| rest.split(' ').next()) else {
                return to_client.write_all(b"HTTP/1.1 405 Method Not Allowed\r\ncontent-length: 0\r\n\r\n");
            };
            let target = TcpStream::connect(authority)?;
            to_client.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n")?;
            target
        }
    };
    let from_target = target.try_clone()?;
    let back = thread::spawn(move || copy_until_closed(from_target, to_client));
    copy_until_closed(from_client, target);
    let _ = back.join();
    Ok(())
}

fn copy_until_closed(mut from: impl Read, mut to: TcpStream) {
    let _ = io::copy(&mut from, &mut to);
    let _ = to.shutdown(Shutdown::Both);
}
