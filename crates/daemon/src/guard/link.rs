//! The daemon's end: starts the guard, connects to it, and hears it.

use super::protocol::{FromGuard, KIND, ToGuard};
use crate::paths::Paths;
use hotpair_wire::codec;
use hotpair_wire::frame::{self, Decoder};
use std::io;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::mpsc;

const FRAME_LIMIT: usize = 512 * 1024;
const START_LIMIT: Duration = Duration::from_secs(3);

/// What is heard of the guard.
#[derive(Debug)]
pub enum GuardNews {
    /// A guard is there; `anew`: it was started just now and knows nothing.
    Connected {
        sender: mpsc::UnboundedSender<ToGuard>,
        anew: bool,
    },
    Said(FromGuard),
    /// Its connection closed: it has ended or was killed.
    Lost,
}

/// Keeps a guard running and connected for as long as `news` is heard.
pub async fn keep(
    paths: Paths,
    groups: std::path::PathBuf,
    news: mpsc::UnboundedSender<GuardNews>,
) {
    loop {
        match connect(&paths, &groups).await {
            Ok((stream, anew)) => {
                if converse(stream, anew, &news).await.is_err() {
                    return;
                }
            }
            Err(error) => {
                eprintln!("hotpair: the guard cannot be started: {error}");
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
        }
    }
}

async fn connect(paths: &Paths, groups: &Path) -> io::Result<(UnixStream, bool)> {
    let socket = paths.guard_socket();
    if let Ok(stream) = UnixStream::connect(&socket).await {
        return Ok((stream, false));
    }
    start(paths, groups)?;
    let deadline = tokio::time::Instant::now() + START_LIMIT;
    loop {
        match UnixStream::connect(&socket).await {
            Ok(stream) => return Ok((stream, true)),
            Err(error) if tokio::time::Instant::now() >= deadline => return Err(error),
            Err(_) => tokio::time::sleep(Duration::from_millis(2)).await,
        }
    }
}

/// In its own session, so that it outlives the daemon.
fn start(paths: &Paths, groups: &Path) -> io::Result<()> {
    let log = std::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(paths.log.join("guard.log"))?;
    let program = std::env::current_exe()?;
    let mut child = Command::new(program)
        .arg("guard")
        .arg("--socket")
        .arg(paths.guard_socket())
        .arg("--promises")
        .arg(paths.promises())
        .arg("--groups")
        .arg(groups)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .process_group(0)
        .spawn()?;
    // Reaped when it ends while this daemon runs; afterwards init does it.
    std::thread::spawn(move || child.wait());
    Ok(())
}

async fn converse(
    stream: UnixStream,
    anew: bool,
    news: &mpsc::UnboundedSender<GuardNews>,
) -> Result<(), ()> {
    let (mut reader, mut writer) = stream.into_split();
    let (sender, mut outgoing) = mpsc::unbounded_channel::<ToGuard>();
    news.send(GuardNews::Connected { sender, anew })
        .map_err(|_| ())?;
    let writing = async move {
        while let Some(message) = outgoing.recv().await {
            let Ok(bytes) = frame::encode(KIND, &codec::encode(&message), FRAME_LIMIT) else {
                continue;
            };
            if writer.write_all(&bytes).await.is_err() {
                break;
            }
        }
    };
    let reading = async {
        let mut decoder = Decoder::new(FRAME_LIMIT);
        let mut buffer = vec![0; 16 * 1024];
        while let Ok(length) = reader.read(&mut buffer).await {
            if length == 0 {
                break;
            }
            let mut chunk = &buffer[..length];
            while let Ok(Some(frame)) = decoder.advance(&mut chunk) {
                if let Ok(message) = codec::decode(&frame.payload) {
                    let _ = news.send(GuardNews::Said(message));
                }
            }
        }
    };
    tokio::select! {
        () = writing => {}
        () = reading => {}
    }
    news.send(GuardNews::Lost).map_err(|_| ())
}

/// Tells the guard to close every gate and end, and waits for that, at most 2 s.
pub fn end(paths: &Paths) {
    use std::io::{Read, Write};
    let Ok(mut stream) = std::os::unix::net::UnixStream::connect(paths.guard_socket()) else {
        return;
    };
    let Ok(bytes) = frame::encode(KIND, &codec::encode(&ToGuard::End), FRAME_LIMIT) else {
        return;
    };
    let _ = stream.set_read_timeout(Some(Duration::from_secs(2)));
    if stream.write_all(&bytes).is_ok() {
        // Whatever it still has to say is of no interest; the end of the stream is.
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest);
    }
}
