//! A wire between two addresses that can be held still without being cut.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

pub struct Proxy {
    pub address: SocketAddr,
    still: Arc<AtomicBool>,
    ended: Arc<AtomicBool>,
}

impl Proxy {
    pub fn to(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let proxy = Self {
            address: listener.local_addr().unwrap(),
            still: Arc::default(),
            ended: Arc::default(),
        };
        let (still, ended) = (Arc::clone(&proxy.still), Arc::clone(&proxy.ended));
        std::thread::spawn(move || {
            for near in listener.incoming().map_while(Result::ok) {
                if ended.load(Ordering::SeqCst) {
                    return;
                }
                let Ok(far) = TcpStream::connect(target) else {
                    continue;
                };
                let ways = [
                    (near.try_clone().unwrap(), far.try_clone().unwrap()),
                    (far, near),
                ];
                for (from, to) in ways {
                    let (still, ended) = (Arc::clone(&still), Arc::clone(&ended));
                    std::thread::spawn(move || carry(from, to, &still, &ended));
                }
            }
        });
        proxy
    }

    /// Nothing passes any more, on any connection, and none is closed.
    pub fn hold_still(&self) {
        self.still.store(true, Ordering::SeqCst);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.address);
    }
}

fn carry(mut from: TcpStream, mut to: TcpStream, still: &AtomicBool, ended: &AtomicBool) {
    let mut buffer = vec![0; 64 * 1024];
    let _ = from.set_read_timeout(Some(Duration::from_millis(50)));
    while !ended.load(Ordering::SeqCst) {
        if still.load(Ordering::SeqCst) {
            std::thread::yield_now();
            std::thread::park_timeout(Duration::from_millis(20));
            continue;
        }
        match from.read(&mut buffer) {
            Ok(0) => return,
            Ok(length) => {
                if to.write_all(&buffer[..length]).is_err() {
                    return;
                }
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(_) => return,
        }
    }
}
