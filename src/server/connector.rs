//! Connections with an end: the library's own connectors, with what they lack.
//!
//! - An error while a connection is made, with its proxy and its TLS handshake, is marked as [`NotConnected`]: nothing of
//!   the request can have left this machine. Any error after that may be one of a request that has arrived, and
//!   its words prove nothing: what stands between here and the Server can send anything.
//! - Whether a call was made on a connection that earlier calls had left, and no byte of its answer has arrived, is told:
//!   the other side may have closed it at that moment.
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
    /// What has become of the call that this thread makes.
    static COURSE: Cell<Course> = const { Cell::new(Course { is_new: false, is_heard: false }) };
}

#[derive(Clone, Copy, Default)]
struct Course {
    /// A connection was made for the call, or tried to.
    is_new: bool,
    /// A byte of the answer has arrived.
    is_heard: bool,
}

/// Makes a call, and tells whether it went over a connection of earlier calls, and no byte of its answer has arrived.
pub fn watched<T>(call: impl FnOnce() -> T) -> (T, bool) {
    COURSE.take();
    let result = call();
    let course = COURSE.take();
    (result, !course.is_new && !course.is_heard)
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
        COURSE.set(Course { is_new: true, is_heard: false });
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
        Ok(chained.map(|transport| Box::new(Watched(transport)) as Box<dyn Transport>))
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

/// A connection, with TLS if it has one, that notes when something of an answer arrives.
#[derive(Debug)]
struct Watched<T>(T);

impl<T: Transport> Transport for Watched<T> {
    fn buffers(&mut self) -> &mut dyn Buffers {
        self.0.buffers()
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), ureq::Error> {
        self.0.transmit_output(amount, timeout)
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, ureq::Error> {
        let has_come = self.0.await_input(timeout)?;
        let course = COURSE.get();
        COURSE.set(Course { is_heard: course.is_heard || has_come, ..course });
        Ok(has_come)
    }

    fn is_open(&mut self) -> bool {
        self.0.is_open()
    }

    fn is_tls(&self) -> bool {
        self.0.is_tls()
    }
}
