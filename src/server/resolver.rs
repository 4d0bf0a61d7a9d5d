//! The addresses of the host that calls go to: the Server, or a proxy.
//!
//! ureq's own resolver starts a thread for every look-up, also of an address, and ends the process where the system has no
//! thread for it. Here an address needs no look-up, and one thread that lasts makes all look-ups of names. Without it
//! the call fails, and the next one tries to start it again.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::iter::once;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded, unbounded};
use ureq::Timeout;
use ureq::config::Config;
use ureq::http::Uri;
use ureq::unversioned::resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::NextTimeout;

use super::error::Unresolved;
use crate::os::own_address::is_own;
use crate::os::timeout::with_timeout;

/// How long a look-up may take, also in a call that has no limit as a whole.
const LIMIT: Duration = Duration::from_secs(10);
/// How many addresses of a name ureq's list has room for.
const MAX_ADDRESSES: usize = 16;

/// Resolves names. Clones share the thread.
#[derive(Clone, Default)]
pub(super) struct HostResolver(Arc<Mutex<Option<Sender<Lookup>>>>);

/// The addresses, or the system's words why there are none.
type Found = Result<Vec<SocketAddr>, String>;

/// A look-up that a call waits for.
struct Lookup {
    /// `name:port`.
    place: String,
    /// When the call gives it up.
    until: Instant,
    found: Sender<Found>,
}

impl Resolver for HostResolver {
    /// An error is marked as [`Unresolved`]: without an address nothing can have been sent.
    fn resolve(&self, uri: &Uri, _: &Config, timeout: NextTimeout) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let parts = uri.scheme().zip(uri.authority());
        let place = parts.and_then(|(scheme, authority)| DefaultResolver::host_and_port(scheme, authority));
        let place = place.ok_or_else(|| ureq::Error::BadUri(format!("{uri} names no host and port")))?;
        let found = match place.parse() {
            Ok(address) => vec![address],
            Err(_) => {
                let limit = if timeout.after.is_not_happening() { LIMIT } else { LIMIT.min(*timeout.after) };
                let unresolved = |why| Unresolved(uri.host().unwrap_or_default().to_owned(), why);
                let found = self.look_up(place, limit).map_err(|why| ureq::Error::Other(Box::new(unresolved(why))))?;
                with_one_of_this_machine(found.ok_or(ureq::Error::Timeout(Timeout::Resolve))?, is_own)
            }
        };
        if found.is_empty() {
            return Err(ureq::Error::HostNotFound);
        }
        let mut addresses = self.empty();
        found.into_iter().take(MAX_ADDRESSES).for_each(|address| addresses.push(address));
        Ok(addresses)
    }
}

impl HostResolver {
    /// Returns `None` where that takes longer than `limit`.
    fn look_up(&self, place: String, limit: Duration) -> io::Result<Option<Vec<SocketAddr>>> {
        let (found, answer) = bounded(1);
        let lookup = Lookup { place, until: Instant::now() + limit, found };
        let ended = || io::Error::other("the thread for it has ended");
        self.queue()?.send(lookup).map_err(|_| ended())?;
        match answer.recv_timeout(limit) {
            Ok(found) => found.map(Some).map_err(io::Error::other),
            Err(RecvTimeoutError::Timeout) => Ok(None),
            // The thread has passed by a look-up whose time was over.
            Err(RecvTimeoutError::Disconnected) => Ok(None),
        }
    }

    /// The way to the thread, which is started where there is none.
    fn queue(&self) -> io::Result<Sender<Lookup>> {
        let mut thread = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(queue) = &*thread {
            return Ok(queue.clone());
        }
        let (queue, lookups) = unbounded();
        thread::Builder::new()
            .name("resolver".to_owned())
            .spawn(move || serve(&lookups))
            .map_err(|error| io::Error::other(format!("this machine has no thread for the look-up: {error}")))?;
        Ok(thread.insert(queue).clone())
    }
}

impl fmt::Debug for HostResolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HostResolver")
    }
}

/// Makes look-ups until nothing can ask for one. Those of one name that wait together are answered together, so that a name
/// service that is slow delays none of them twice.
fn serve(lookups: &Receiver<Lookup>) {
    let mut waiting = VecDeque::new();
    loop {
        let Some(next) = waiting.pop_front().or_else(|| lookups.recv().ok()) else { return };
        let Lookup { place, until, .. } = &next;
        if Instant::now() >= *until {
            continue;
        }
        let found: Found = place.to_socket_addrs().map(Iterator::collect).map_err(|error: io::Error| error.to_string());
        waiting.extend(lookups.try_iter());
        let (same, others) = waiting.into_iter().partition(|lookup: &Lookup| lookup.place == *place);
        waiting = others;
        let same: VecDeque<Lookup> = same;
        for lookup in once(&next).chain(&same) {
            // A send error means that the call has given up; ignore it.
            let _ = lookup.found.send(found.clone());
        }
    }
}

/// The address of this machine to which calls to a URL go, if they end on this machine.
pub fn address_on_this_machine(url: &str) -> Option<SocketAddr> {
    let uri: Uri = url.parse().ok()?;
    let place = DefaultResolver::host_and_port(uri.scheme()?, uri.authority()?)?;
    let found = with_timeout(move || place.to_socket_addrs().map(Iterator::collect))?.ok()?;
    with_one_of_this_machine(found, is_own).into_iter().find(is_own)
}

/// Of the addresses that are this machine's, only one is used: the first one of IPv4, or else the first one. A name such as
/// `localhost` may have two, of which the Server listens on one, and any user of this machine on the other.
fn with_one_of_this_machine(found: Vec<SocketAddr>, is_own: fn(&SocketAddr) -> bool) -> Vec<SocketAddr> {
    if found.len() < 2 {
        return found;
    }
    let own: Vec<SocketAddr> = found.iter().filter(|address| is_own(address)).copied().collect();
    let chosen = own.iter().find(|address| address.is_ipv4()).or(own.first());
    found.into_iter().filter(|address| !own.contains(address) || chosen == Some(address)).collect()
}

#[cfg(test)]
mod tests {
    use super::{HostResolver, with_one_of_this_machine};
    use std::net::SocketAddr;
    use std::time::Duration;

    #[test]
    fn a_name_of_this_machine_has_one_address() {
        let addresses = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect::<Vec<SocketAddr>>();
        let is_own = |address: &SocketAddr| address.ip().is_loopback();
        for (found, used) in [
            (&["[::1]:8080", "127.0.0.1:8080"][..], &["127.0.0.1:8080"][..]),
            (&["127.0.1.1:80", "127.0.0.1:80", "[::1]:80"], &["127.0.1.1:80"]),
            (&["[::1]:80"], &["[::1]:80"]),
            (&["10.0.0.1:80", "[::1]:80", "10.0.0.2:80"], &["10.0.0.1:80", "[::1]:80", "10.0.0.2:80"]),
            (&["[2001:db8::1]:80", "10.0.0.1:80"], &["[2001:db8::1]:80", "10.0.0.1:80"]),
            (&[], &[]),
        ] {
            assert_eq!(with_one_of_this_machine(addresses(found), is_own), addresses(used), "{found:?}");
        }
    }

    #[test]
    fn names_are_looked_up_by_one_thread_within_the_time() {
        let resolver = HostResolver::default();
        let long = Duration::from_secs(60);
        let found = resolver.look_up("localhost:7".to_owned(), long).unwrap().unwrap();
        assert!(found.iter().all(|address| address.ip().is_loopback() && address.port() == 7), "{found:?}");
        assert!(resolver.look_up("no such name:7".to_owned(), long).is_err());
        assert_eq!(resolver.look_up("localhost:7".to_owned(), Duration::ZERO).unwrap(), None);
        assert!(resolver.clone().look_up("localhost:8".to_owned(), long).unwrap().is_some());
    }
}
