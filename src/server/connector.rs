//! Connections with an end: the library's own connectors, with what they lack.
//!
//! - An error while a connection is made, with its proxy and its TLS handshake, is marked as [`NotConnected`]: nothing of
//!   the request can have left this machine. Any error after that may be one of a request that has arrived, and
//!   its words prove nothing: what stands between here and the Server can send anything.
//! - Every read and write ends at the deadline of the call, which no trickle of bytes moves. The library's own limit for
//!   a proxy's answer to CONNECT begins anew with each byte.

use std::cell::Cell;
use std::fmt;
use std::time::{Duration, Instant};

use ureq::Timeout;
use ureq::unversioned::transport::time::Duration as Span;
use ureq::unversioned::transport::{
    Buffers, ConnectProxyConnector, ConnectionDetails, Connector, NextTimeout, RustlsConnector, TcpConnector, Transport,
};

thread_local! {
    /// When the call that this thread makes, or the connection for it, has to be done.
    static DEADLINE: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// Runs a part of a call, which has at most this time. A part within another one ends with it.
pub fn within<T>(limit: Duration, part: impl FnOnce() -> T) -> T {
    let before = DEADLINE.get();
    let own = Instant::now() + limit;
    DEADLINE.set(Some(before.map_or(own, |outer| outer.min(own))));
    let result = part();
    DEADLINE.set(before);
    result
}

/// No connection was made, so that nothing was sent.
#[derive(Debug)]
pub struct NotConnected(pub ureq::Error);

impl fmt::Display for NotConnected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for NotConnected {}

/// Makes the connections of an agent.
#[derive(Debug)]
pub struct BoundedConnector {
    chain: Box<dyn Connector<(), Out = Box<dyn Transport>>>,
    /// How long a connection may take, with its proxy and its TLS handshake.
    limit: Duration,
}

impl BoundedConnector {
    pub fn new(limit: Duration) -> Self {
        let chain =
            ().chain(ConnectProxyConnector::default())
                .chain(TcpConnector::default())
                .chain(Bounding)
                .chain(RustlsConnector::default())
                .chain(Boxing);
        Self { chain: Box::new(chain), limit }
    }
}

impl Connector<()> for BoundedConnector {
    type Out = Box<dyn Transport>;

    fn connect(&self, details: &ConnectionDetails, chained: Option<()>) -> Result<Option<Self::Out>, ureq::Error> {
        within(self.limit, || self.chain.connect(details, chained)).map_err(|error| match error {
            // The connection to the proxy is made by this connector, too.
            ureq::Error::Other(why) if why.is::<NotConnected>() => ureq::Error::Other(why),
            error => ureq::Error::Other(Box::new(NotConnected(error))),
        })
    }
}

#[derive(Debug)]
struct Bounding;

impl<In: Transport> Connector<In> for Bounding {
    type Out = Bounded<In>;

    fn connect(&self, _: &ConnectionDetails, chained: Option<In>) -> Result<Option<Self::Out>, ureq::Error> {
        Ok(chained.map(Bounded))
    }
}

#[derive(Debug)]
struct Boxing;

impl<In: Transport> Connector<In> for Boxing {
    type Out = Box<dyn Transport>;

    fn connect(&self, _: &ConnectionDetails, chained: Option<In>) -> Result<Option<Self::Out>, ureq::Error> {
        Ok(chained.map(|transport| Box::new(transport) as Box<dyn Transport>))
    }
}

/// A connection whose reads and writes end at the deadline of the call.
#[derive(Debug)]
struct Bounded<T>(T);

/// The same limit, or what is left until the deadline.
fn bounded(timeout: NextTimeout) -> Result<NextTimeout, ureq::Error> {
    let Some(deadline) = DEADLINE.get() else { return Ok(timeout) };
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() {
        return Err(ureq::Error::Timeout(timeout.reason));
    }
    if *timeout.after <= left {
        return Ok(timeout);
    }
    Ok(NextTimeout { after: Span::Exact(left), reason: Timeout::Global, ..timeout })
}

impl<T: Transport> Transport for Bounded<T> {
    fn buffers(&mut self) -> &mut dyn Buffers {
        self.0.buffers()
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), ureq::Error> {
        self.0.transmit_output(amount, bounded(timeout)?)
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, ureq::Error> {
        self.0.await_input(bounded(timeout)?)
    }

    fn is_open(&mut self) -> bool {
        self.0.is_open()
    }

    fn is_tls(&self) -> bool {
        self.0.is_tls()
    }
}
