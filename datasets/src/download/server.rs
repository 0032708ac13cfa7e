//! A server on loopback for tests, which does with each request what it was told to.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// How long it waits for a client that says nothing.
const DEADLINE: Duration = Duration::from_secs(30);

/// What it does with one request.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Reply {
    /// Sends the part that is asked for.
    Rest,
    /// Sends the whole file, whatever is asked for.
    Whole,
    /// Sends a part that nobody asked for.
    OtherPart,
    /// Sends so many bytes of what is asked for, and breaks the connection.
    Break(usize),
    /// Sends so many bytes of what is asked for, and is silent until the client goes away.
    Stall(usize),
    /// Refuses.
    Status(u16),
}

/// It serves one file under every name, until it is dropped.
#[derive(Debug)]
pub(crate) struct Server {
    port: u16,
    requests: Arc<Mutex<Vec<String>>>,
    is_over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Answers the first request with the first reply, and so on; the last reply goes to all further ones.
    pub(crate) fn new(file: &[u8], replies: &[Reply]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let (requests, is_over) = (Arc::<Mutex<Vec<String>>>::default(), Arc::<AtomicBool>::default());
        let (file, replies) = (file.to_owned(), replies.to_owned());
        let (heard, ended) = (requests.clone(), is_over.clone());
        let thread = thread::spawn(move || {
            let mut replies = replies.iter().copied().peekable();
            for client in listener.incoming() {
                if ended.load(Ordering::SeqCst) {
                    return;
                }
                let Some(&reply) = replies.peek() else { return };
                // A client that goes away amid its answer is what some tests are about.
                if answer(&client.unwrap(), &file, reply, &heard).is_ok() && replies.len() > 1 {
                    replies.next();
                }
            }
        });
        Self { port, requests, is_over, thread: Some(thread) }
    }

    /// The address of a folder.
    pub(crate) fn folder(&self, name: &str) -> String {
        format!("http://127.0.0.1:{}/{name}/", self.port)
    }

    /// What was asked for so far: `GET /folder/name`, and the range behind it if there was one.
    pub(crate) fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }

    /// A text in which the port is `PORT`.
    pub(crate) fn without_port(&self, text: &str) -> String {
        text.replace(&format!(":{}/", self.port), ":PORT/")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::SeqCst);
        drop(TcpStream::connect(("127.0.0.1", self.port)));
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
            && !thread::panicking()
        {
            panic!("the server panicked");
        }
    }
}

/// Answers one request; an error is the client's.
fn answer(mut client: &TcpStream, file: &[u8], reply: Reply, heard: &Mutex<Vec<String>>) -> std::io::Result<()> {
    client.set_read_timeout(Some(DEADLINE))?;
    client.set_write_timeout(Some(DEADLINE))?;
    let mut lines = BufReader::new(client).lines();
    let first = lines.next().transpose()?.unwrap_or_default();
    let mut range = None;
    for line in lines {
        let line = line?.to_ascii_lowercase();
        if line.is_empty() {
            break;
        }
        range = range.or(line.strip_prefix("range: ").map(str::to_owned));
    }
    let asked = first.trim_end_matches(" HTTP/1.1");
    let noted = range.iter().fold(asked.to_owned(), |noted, range| format!("{noted} {range}"));
    heard.lock().unwrap().push(noted);

    let start = range.and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok());
    let (start, sent) = match reply {
        Reply::Status(status) => {
            return write!(client, "HTTP/1.1 {status} Told So\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        }
        Reply::Whole => (None, usize::MAX),
        Reply::OtherPart => (Some(1), usize::MAX),
        Reply::Rest => (start, usize::MAX),
        Reply::Break(sent) | Reply::Stall(sent) => (start, sent),
    };
    if start.is_some_and(|start| start >= file.len()) {
        let range = format!("Content-Range: bytes */{}", file.len());
        return write!(client, "HTTP/1.1 416 No\r\n{range}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    }
    let body = &file[start.unwrap_or(0)..];
    match start {
        None => write!(client, "HTTP/1.1 200 OK\r\n")?,
        Some(start) => {
            let range = format!("bytes {start}-{}/{}", file.len() - 1, file.len());
            write!(client, "HTTP/1.1 206 Partial Content\r\nContent-Range: {range}\r\n")?;
        }
    }
    write!(client, "Content-Length: {}\r\nConnection: close\r\n\r\n", body.len())?;
    client.write_all(&body[..sent.min(body.len())])?;
    if let Reply::Stall(_) = reply {
        // Ends when the client has closed its end.
        let _ = client.read(&mut [0]);
    }
    Ok(())
}
