//! The API's socket: one line of JSON in, one line out.

use crate::agents;
use hotpair_api::{Call, Envelope, EventView, MAX_LINE, Reply, VERSION};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{broadcast, mpsc, oneshot};

/// A call, and where its answer goes.
pub struct Asked {
    pub call: Call,
    pub reply: oneshot::Sender<Answer>,
}

/// An answer, and for a following caller what comes after it.
pub struct Answer {
    pub reply: Reply,
    pub follow: Option<broadcast::Receiver<EventView>>,
}

impl From<Reply> for Answer {
    fn from(reply: Reply) -> Self {
        Self {
            reply,
            follow: None,
        }
    }
}

/// An idle caller is hung up on after this.
const IDLE: Duration = Duration::from_secs(600);

/// Opens the socket; only root may use it.
///
/// # Errors
/// The socket cannot be made.
pub fn open(path: &Path) -> io::Result<UnixListener> {
    let _ = std::fs::remove_file(path);
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// Serves callers until the daemon ends.
pub async fn serve(listener: UnixListener, asked: mpsc::UnboundedSender<Asked>) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                tokio::spawn(converse(stream, asked.clone()));
            }
            // Out of file descriptors, most likely: waiting is all that helps.
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}

async fn converse(stream: UnixStream, asked: mpsc::UnboundedSender<Asked>) {
    let (reader, mut writer) = stream.into_split();
    let mut reader = BufReader::new(reader);
    loop {
        let mut line = Vec::new();
        let mut limited = (&mut reader).take(MAX_LINE as u64 + 1);
        let read = tokio::time::timeout(IDLE, limited.read_until(b'\n', &mut line)).await;
        if !matches!(read, Ok(Ok(length)) if length > 0) {
            return;
        }
        let answer = if line.len() > MAX_LINE {
            Reply::Refused(format!("the call is longer than {MAX_LINE} bytes")).into()
        } else {
            answer(&line, &asked).await
        };
        if write(&mut writer, &answer.reply).await.is_err() {
            return;
        }
        if let Some(follow) = answer.follow {
            return stream_events(writer, follow).await;
        }
    }
}

async fn answer(line: &[u8], asked: &mpsc::UnboundedSender<Asked>) -> Answer {
    let envelope: Envelope = match serde_json::from_slice(line) {
        Ok(envelope) => envelope,
        Err(error) => return Reply::Refused(format!("the call cannot be read: {error}")).into(),
    };
    if envelope.version != VERSION {
        let text = format!(
            "this daemon speaks version {VERSION} of the interface, the caller version {}: use the `hotpair` it was installed with",
            envelope.version
        );
        return Reply::Refused(text).into();
    }
    if let Call::ConfigApply { text, .. } = &envelope.call {
        let text = text.clone();
        // Without an answer their parameters are not checked.
        let _ = tokio::task::spawn_blocking(move || agents::ask_all_of(&text)).await;
    }
    let (reply, answered) = oneshot::channel();
    if asked
        .send(Asked {
            call: envelope.call,
            reply,
        })
        .is_err()
    {
        return Reply::Refused("the daemon is ending".into()).into();
    }
    answered
        .await
        .unwrap_or_else(|_| Reply::Refused("the daemon is ending".into()).into())
}

async fn stream_events(
    mut writer: tokio::net::unix::OwnedWriteHalf,
    mut follow: broadcast::Receiver<EventView>,
) {
    loop {
        match follow.recv().await {
            Ok(event) => {
                if write(&mut writer, &Reply::Events(vec![event]))
                    .await
                    .is_err()
                {
                    return;
                }
            }
            // A slow reader misses some; their numbers show it.
            Err(broadcast::error::RecvError::Lagged(_)) => {}
            Err(broadcast::error::RecvError::Closed) => return,
        }
    }
}

async fn write(writer: &mut tokio::net::unix::OwnedWriteHalf, reply: &Reply) -> io::Result<()> {
    let mut line = serde_json::to_vec(reply)?;
    line.push(b'\n');
    writer.write_all(&line).await
}
