//! The application of the practice group: says which node answers, over UDP and HTTP.
//!
//! UDP: `hotpair SEQUENCE` is answered with `hotpair SEQUENCE NODE COUNTER`. TCP: any request is
//! answered with one HTTP response. It starts within milliseconds and keeps nothing.

use crate::error::{LabError, Result};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Serves until it is killed.
pub fn run(listen: SocketAddr, name: Option<String>) -> Result<()> {
    let name = name.map_or_else(host_name, Ok)?;
    let fail = |e| LabError::system(format!("listen on {listen}"), e);
    let tcp = TcpListener::bind(listen).map_err(fail)?;
    let udp = UdpSocket::bind(listen).map_err(fail)?;
    let counter = Arc::new(AtomicU64::new(0));
    let (shared, node) = (Arc::clone(&counter), name.clone());
    std::thread::spawn(move || {
        for stream in tcp.incoming().flatten() {
            let _ = answer_http(stream, &node, shared.fetch_add(1, Ordering::Relaxed));
        }
    });
    let mut buffer = [0u8; 512];
    loop {
        // An ICMP error for an earlier answer comes back here; it says nothing about the next.
        let Ok((length, from)) = udp.recv_from(&mut buffer) else {
            continue;
        };
        let mut answer = buffer[..length.min(64)].to_vec();
        let count = counter.fetch_add(1, Ordering::Relaxed);
        answer.extend_from_slice(format!(" {name} {count}").as_bytes());
        let _ = udp.send_to(&answer, from);
    }
}

fn answer_http(mut stream: TcpStream, name: &str, count: u64) -> std::io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_millis(500)))?;
    stream.set_write_timeout(Some(Duration::from_millis(500)))?;
    let mut request = [0u8; 1024];
    let _ = stream.read(&mut request)?;
    let body = format!("{name} {count}\n");
    let length = body.len();
    write!(
        stream,
        "HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {length}\r\n\r\n{body}"
    )
}

fn host_name() -> Result<String> {
    let name = nix::unistd::gethostname().map_err(|e| LabError::system("read the host name", e))?;
    Ok(name.to_string_lossy().into_owned())
}
