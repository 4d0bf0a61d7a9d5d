//! An upload's body: a form with the task's id and one file, streamed (PROTOCOL, "Addresses and headers").

use std::fs::File;
use std::io::{self, Read};
use std::sync::atomic::{AtomicU64, Ordering};

use super::media_type::media_type;
use crate::os::random::random_id;

/// A file to be uploaded, opened already, so that the file that was checked is the file that is sent.
pub struct Upload<'a> {
    /// The task that wrote the file.
    pub task_id: &'a str,
    /// The name under which the Server shows it: a path without characters that end a header's value.
    pub filename: &'a str,
    /// The open file, at its beginning.
    pub file: &'a File,
    /// How many bytes of it are sent.
    pub size: u64,
    /// Counts the bytes that were read to be sent: no more than these have left this machine, however the call ends.
    pub bytes_read: &'a AtomicU64,
}

/// The form that carries a file.
pub(super) struct Form<'a> {
    /// The value of `Content-Type`.
    pub content_type: String,
    /// The value of `Content-Length`.
    pub length: u64,
    /// The file; it keeps the error that ended its reading, if one did.
    pub file: SizedReader<'a>,
    head: String,
    tail: String,
}

impl<'a> Form<'a> {
    /// # Errors
    /// The file can't be read.
    pub fn new(upload: &Upload<'a>) -> io::Result<Self> {
        let boundary = format!("agent-core-{}", random_id());
        let mime = media_type(upload.filename, upload.file, upload.size)?;
        // The Server reads the text field only in front of the file.
        let head = format!(
            "--{boundary}\r\nContent-Disposition: form-data; name=\"task_id\"\r\n\r\n{}\r\n\
             --{boundary}\r\nContent-Disposition: form-data; name=\"file\"; filename=\"{}\"\r\n\
             Content-Type: {mime}\r\n\r\n",
            upload.task_id, upload.filename
        );
        let tail = format!("\r\n--{boundary}--\r\n");
        let length = head.len() as u64 + upload.size + tail.len() as u64;
        let file = SizedReader { file: upload.file, left: upload.size, bytes_read: upload.bytes_read, error: None };
        Ok(Self { content_type: format!("multipart/form-data; boundary={boundary}"), length, file, head, tail })
    }

    /// Whether all of the file was read to be sent.
    pub fn is_read(&self) -> bool {
        self.file.left == 0
    }

    pub fn reader(&mut self) -> impl Read {
        self.head.as_bytes().chain(&mut self.file).chain(self.tail.as_bytes())
    }
}

/// Reads exactly the number of bytes that the request has announced.
pub(super) struct SizedReader<'a> {
    file: &'a File,
    left: u64,
    bytes_read: &'a AtomicU64,
    pub error: Option<io::Error>,
}

impl Read for SizedReader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let room = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        if room == 0 {
            return Ok(0);
        }
        let read = match self.file.read(&mut buffer[..room]) {
            Ok(0) => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the file became shorter while it was sent")),
            other => other,
        };
        match read {
            Ok(count) => {
                self.left -= count as u64;
                self.bytes_read.fetch_add(count as u64, Ordering::Relaxed);
                Ok(count)
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Err(error),
            Err(error) => {
                let kind = error.kind();
                self.error = Some(error);
                Err(kind.into())
            }
        }
    }
}
