//! The port: listening, outages, and the end of all threads.

use super::connection::serve;
use super::stream::Stream;
use super::{Control, Inner};
use socket2::{Domain, SockAddr, Socket, Type};
use std::collections::HashMap;
use std::io::{self, BufReader};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// Ends the waits of connections when their listening period ends.
#[derive(Default)]
pub struct Gate {
    epoch: Mutex<u64>,
    changed: Condvar,
}

impl Gate {
    /// Waits; false when the period ended meanwhile.
    pub fn wait(&self, epoch: u64, time: Duration) -> bool {
        let until = Instant::now() + time;
        let mut now = self.epoch.lock().expect("no thread panics with this lock");
        while *now == epoch {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return true;
            }
            now = self.changed.wait_timeout(now, left).expect("no thread panics with this lock").0;
        }
        false
    }

    /// Waits until the server stops.
    pub fn wait_for_its_end(&self, epoch: u64) {
        while self.wait(epoch, Duration::from_secs(3600)) {}
    }

    fn current(&self) -> u64 {
        *self.epoch.lock().expect("no thread panics with this lock")
    }

    /// Ends the period, and every wait in it.
    pub fn next(&self) {
        *self.epoch.lock().expect("no thread panics with this lock") += 1;
        self.changed.notify_all();
    }
}

/// Reserves a port also during an outage: a second socket that is bound and never listens keeps other programs from
/// using the port, and connections to it are refused.
pub struct Port {
    _reservation: Socket,
    pub address: SocketAddr,
}

impl Port {
    pub fn reserve(port: u16) -> io::Result<Self> {
        let reservation = bound(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))?;
        let address = reservation.local_addr()?.as_socket();
        let address = address.ok_or_else(|| io::Error::other("the socket has no address"))?;
        Ok(Self { _reservation: reservation, address })
    }

    fn listen(&self) -> io::Result<TcpListener> {
        let socket = bound(self.address)?;
        socket.listen(128)?;
        Ok(socket.into())
    }
}

fn bound(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.bind(&SockAddr::from(address))?;
    Ok(socket)
}

/// The open connections by number, so that an outage can close them.
#[derive(Default)]
pub struct Connections {
    open: Mutex<HashMap<u64, TcpStream>>,
    last: AtomicU64,
}

impl Connections {
    fn add(&self, socket: &TcpStream) -> u64 {
        let number = self.last.fetch_add(1, Ordering::SeqCst);
        if let Ok(socket) = socket.try_clone() {
            let mut open = self.open.lock().expect("no thread panics with this lock");
            open.insert(number, socket);
        }
        number
    }

    fn remove(&self, number: u64) {
        let mut open = self.open.lock().expect("no thread panics with this lock");
        open.remove(&number);
    }

    fn shut_down(&self) {
        let open = self.open.lock().expect("no thread panics with this lock");
        for socket in open.values() {
            let _ = socket.shutdown(Shutdown::Both);
        }
    }
}

/// The thread that accepts connections.
pub struct Listening {
    thread: JoinHandle<()>,
    ending: Arc<AtomicBool>,
}

impl Listening {
    pub fn start(control: &Control) -> io::Result<Self> {
        let listener = control.inner.port.listen()?;
        let ending = Arc::new(AtomicBool::new(false));
        let control = control.clone();
        let seen = Arc::clone(&ending);
        let epoch = control.inner.gate.current();
        let thread = thread::spawn(move || accept_connections(&control, &listener, &seen, epoch));
        Ok(Self { thread, ending })
    }

    /// Closes the port and every connection. Threads of connections are not waited for, since one of
    /// them may be the caller.
    pub fn stop(self, inner: &Inner) {
        self.ending.store(true, Ordering::SeqCst);
        inner.gate.next();
        // The accepting thread checks the flag after each connection, so one more connection wakes it.
        let _ = TcpStream::connect(inner.port.address);
        let _ = self.thread.join();
    }
}

fn accept_connections(control: &Control, listener: &TcpListener, ending: &AtomicBool, epoch: u64) {
    while let Ok((socket, _)) = listener.accept() {
        if ending.load(Ordering::SeqCst) {
            break;
        }
        let thread = start_connection(control, socket, epoch);
        control.inner.threads.add(thread);
    }
    control.inner.connections.shut_down();
}

fn start_connection(control: &Control, socket: TcpStream, epoch: u64) -> JoinHandle<()> {
    let control = control.clone();
    // Listed before the thread runs, so that an outage closes every connection.
    let number = control.inner.connections.add(&socket);
    thread::spawn(move || {
        let tls = control.inner.tls.as_ref().map(|tls| &tls.config);
        let Ok(stream) = Stream::new(socket, tls) else {
            return;
        };
        let mut connection = BufReader::new(stream);
        // Dropped before the connection: only the close of a socket's last handle can be a reset.
        let _listed = Listed { connections: &control.inner.connections, number };
        serve(&control, &mut connection, epoch);
    })
}

/// Removes the connection from the list when its thread ends, also in a panic.
struct Listed<'a> {
    connections: &'a Connections,
    number: u64,
}

impl Drop for Listed<'_> {
    fn drop(&mut self) {
        self.connections.remove(self.number);
    }
}

/// The threads of all connections, which are joined at the end.
#[derive(Default)]
pub struct Threads(Mutex<Vec<JoinHandle<()>>>);

impl Threads {
    fn add(&self, thread: JoinHandle<()>) {
        let mut threads = self.0.lock().expect("no thread panics with this lock");
        threads.retain(|thread| !thread.is_finished());
        threads.push(thread);
    }

    pub fn join_all(&self) {
        let threads = std::mem::take(&mut *self.0.lock().expect("no thread panics with this lock"));
        for thread in threads {
            let _ = thread.join();
        }
    }
}
