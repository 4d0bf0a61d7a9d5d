//! HTTP/1.1 as far as an agent needs it: request heads, bodies with a length or in chunks, answers.
//!
//! It is written over `std::net`, because the faults need control that a library hides: to stop in the middle of an
//! answer, to send none, to reset the connection.

use super::stream::Stream;
use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::time::{Duration, Instant, SystemTime};

/// The limit of a request head; an agent's are much shorter.
const MAX_HEAD: u64 = 64 * 1024;

/// The headers of a message in their order.
#[derive(Clone, Debug, Default)]
pub struct Headers(pub Vec<(String, String)>);

impl Headers {
    /// The first header of that name, ignoring case.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }
}

/// A request's first line and headers.
pub struct Head {
    pub method: String,
    pub target: String,
    pub headers: Headers,
}

/// Reads the next request's head; `None` when the client has closed the connection.
pub fn read_head(connection: &mut BufReader<Stream>) -> io::Result<Option<Head>> {
    let mut text = Vec::new();
    let mut limited = connection.take(MAX_HEAD);
    loop {
        if limited.read_until(b'\n', &mut text)? == 0 {
            return match text.is_empty() {
                true => Ok(None),
                false => Err(invalid("the request's head breaks off or is too large")),
            };
        }
        if text.ends_with(b"\r\n\r\n") {
            break;
        }
    }
    let mut headers = [httparse::EMPTY_HEADER; 64];
    let mut request = httparse::Request::new(&mut headers);
    request.parse(&text).map_err(|error| invalid(&format!("not an HTTP request: {error}")))?;
    Ok(Some(Head {
        method: request.method.unwrap_or_default().to_owned(),
        target: request.path.unwrap_or_default().to_owned(),
        headers: Headers(
            request
                .headers
                .iter()
                .map(|header| {
                    let value = String::from_utf8_lossy(header.value).into_owned();
                    (header.name.to_owned(), value)
                })
                .collect(),
        ),
    }))
}

enum Left {
    Bytes(u64),
    Chunk(u64),
    NextChunk { first: bool },
    Nothing,
}

/// A request's body, read from the connection until `deadline`; then reading fails with `TimedOut`.
pub struct Body<'a> {
    connection: &'a mut BufReader<Stream>,
    left: Left,
    deadline: Instant,
    owes_continue: bool,
    /// Bytes read so far.
    pub size: u64,
}

impl<'a> Body<'a> {
    pub fn new(connection: &'a mut BufReader<Stream>, head: &Head, deadline: Instant) -> io::Result<Self> {
        let chunked = head.headers.get("transfer-encoding").is_some_and(|value| value.eq_ignore_ascii_case("chunked"));
        let left = match (chunked, head.headers.get("content-length")) {
            (true, Some(_)) => return Err(invalid("both a length and chunks")),
            (true, None) => Left::NextChunk { first: true },
            (false, Some(text)) => match text.parse() {
                Ok(length) => Left::Bytes(length),
                Err(_) => return Err(invalid("Content-Length is not a number")),
            },
            (false, None) => Left::Nothing,
        };
        let owes_continue = head.headers.get("expect").is_some_and(|value| value.eq_ignore_ascii_case("100-continue"));
        Ok(Self { connection, left, deadline, owes_continue, size: 0 })
    }

    /// Reads and drops the rest, so that the connection can be used for another request.
    pub fn drain(&mut self) -> io::Result<()> {
        let mut scrap = [0; 16 * 1024];
        while self.read(&mut scrap)? > 0 {}
        Ok(())
    }

    fn wait_no_longer_than_the_deadline(&self) -> io::Result<()> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(ErrorKind::TimedOut.into());
        }
        let socket = self.connection.get_ref().socket();
        socket.set_read_timeout(Some(left.max(Duration::from_millis(1))))
    }

    fn line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        self.connection.by_ref().take(1024).read_line(&mut line)?;
        match line.strip_suffix("\r\n") {
            Some(line) => Ok(line.to_owned()),
            None => Err(invalid("a chunk's size line breaks off")),
        }
    }

    fn next_chunk(&mut self, first: bool) -> io::Result<()> {
        if !first && !self.line()?.is_empty() {
            return Err(invalid("a chunk doesn't end where it said"));
        }
        let line = self.line()?;
        let digits = line.split(';').next().unwrap_or_default().trim();
        let size = u64::from_str_radix(digits, 16).map_err(|_| invalid("not a chunk size"))?;
        if size == 0 {
            while !self.line()?.is_empty() {}
            self.left = Left::Nothing;
        } else {
            self.left = Left::Chunk(size);
        }
        Ok(())
    }
}

impl Read for Body<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if matches!(self.left, Left::Nothing | Left::Bytes(0)) || buffer.is_empty() {
            return Ok(0);
        }
        if self.owes_continue {
            self.owes_continue = false;
            let stream = self.connection.get_mut();
            stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
            stream.flush()?;
        }
        self.wait_no_longer_than_the_deadline()?;
        if let Left::NextChunk { first } = self.left {
            self.next_chunk(first).map_err(timed_out)?;
        }
        let left = match self.left {
            Left::Bytes(left) | Left::Chunk(left) => left,
            Left::Nothing | Left::NextChunk { .. } => return Ok(0),
        };
        let want = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        let got = self.connection.read(&mut buffer[..want]).map_err(timed_out)?;
        if got == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        self.size += got as u64;
        let left = left - got as u64;
        self.left = match (&self.left, left) {
            (Left::Chunk(_), 0) => Left::NextChunk { first: false },
            (Left::Chunk(_), left) => Left::Chunk(left),
            (_, left) => Left::Bytes(left),
        };
        Ok(got)
    }
}

/// An answer. A streamed one has no `Content-Length` and is sent in chunks.
#[derive(Clone, Debug)]
pub struct Response {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    pub streamed: bool,
}

impl Response {
    pub fn new(status: u16, content_type: &str, body: impl Into<Vec<u8>>) -> Self {
        Self {
            status,
            headers: vec![("content-type".to_owned(), content_type.to_owned())],
            body: body.into(),
            streamed: false,
        }
    }

    pub fn json(status: u16, body: &serde_json::Value) -> Self {
        Self::new(status, "application/json", body.to_string())
    }

    pub fn html(status: u16) -> Self {
        let reason = reason(status);
        let page = format!(
            "<html>\r\n<head><title>{status} {reason}</title></head>\r\n<body>\r\n<center>\
             <h1>{status} {reason}</h1></center>\r\n<hr><center>nginx</center>\r\n</body>\r\n</html>\r\n"
        );
        Self::new(status, "text/html", page)
    }

    pub fn streamed(content_type: &str, body: impl Into<Vec<u8>>) -> Self {
        Self { streamed: true, ..Self::new(200, content_type, body) }
    }

    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Writes the status line and the headers.
    pub fn write_head(&self, out: &mut impl Write) -> io::Result<()> {
        let mut head = format!("HTTP/1.1 {} {}\r\n", self.status, reason(self.status));
        for (name, value) in &self.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        if self.streamed {
            head.push_str("transfer-encoding: chunked\r\n");
        } else if self.status != 204 {
            head.push_str(&format!("content-length: {}\r\n", self.body.len()));
        }
        head.push_str("\r\n");
        out.write_all(head.as_bytes())
    }

    /// Writes a piece of the body, framed as a chunk where the answer is streamed.
    pub fn write_piece(&self, out: &mut impl Write, piece: &[u8]) -> io::Result<()> {
        if !self.streamed {
            out.write_all(piece)?;
        } else if !piece.is_empty() {
            // An empty chunk would be the end of the body.
            write!(out, "{:x}\r\n", piece.len())?;
            out.write_all(piece)?;
            out.write_all(b"\r\n")?;
        }
        out.flush()
    }

    /// Ends the body.
    pub fn write_end(&self, out: &mut impl Write) -> io::Result<()> {
        if self.streamed {
            out.write_all(b"0\r\n\r\n")?;
        }
        out.flush()
    }
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        201 => "Created",
        204 => "No Content",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        409 => "Conflict",
        413 => "Request Entity Too Large",
        415 => "Unsupported Media Type",
        429 => "Too Many Requests",
        500 => "Internal Server Error",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        _ => "Status",
    }
}

fn invalid(text: &str) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, text.to_owned())
}

/// A read that ran into the socket's deadline is `WouldBlock` on Unix and `TimedOut` on Windows.
fn timed_out(error: io::Error) -> io::Error {
    match error.kind() {
        ErrorKind::WouldBlock => ErrorKind::TimedOut.into(),
        _ => error,
    }
}

/// A time in the format of the `Date` header (RFC 9110, 5.6.7).
pub fn http_date(time: SystemTime) -> String {
    let time = jiff::Timestamp::try_from(time).expect("a time of our age");
    time.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string()
}
