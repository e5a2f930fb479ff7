//! Messages between the worker and a guardian, over the socket that connects the two.
//!
//! The worker sends a [`Header`] and the payload, and later [`STOP`] if the command has to end early. The guardian
//! sends an [`Event`] when the command has started, and one when its shell has ended.

use std::{io, time::Duration};

use tokio::{io::AsyncReadExt as _, net::UnixStream};

/// Time between SIGTERM and SIGKILL.
pub(crate) const GRACE: Duration = Duration::from_secs(5);

/// First message of the worker to the guardian, before the payload itself.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) payload_bytes: u64,
    /// Soft limit of open files for the command, because the worker has raised its own. `u64::MAX` = unchanged.
    pub(crate) open_files: u64,
}

/// Message of the guardian to the worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// The command runs: the process id of its shell, which is also that of its process group.
    Started(i32),
    /// The command could not be started: the errno.
    Failed(i32),
    /// The shell has ended: its wait status. Processes that it started may still run.
    Ended(i32),
}

/// Request of the worker to end everything: SIGTERM, and SIGKILL after [`GRACE`]. Closing the socket is SIGKILL at
/// once.
pub(crate) const STOP: &[u8] = b"T";

impl Header {
    pub(crate) fn encode(&self) -> [u8; 16] {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&self.payload_bytes.to_le_bytes());
        bytes[8..].copy_from_slice(&self.open_files.to_le_bytes());
        bytes
    }

    pub(crate) async fn read(from: &mut UnixStream) -> io::Result<Self> {
        Ok(Self { payload_bytes: from.read_u64_le().await?, open_files: from.read_u64_le().await? })
    }
}

impl Event {
    pub(crate) fn encode(self) -> [u8; 5] {
        let (kind, value) = match self {
            Self::Started(pid) => (b'S', pid),
            Self::Failed(errno) => (b'F', errno),
            Self::Ended(status) => (b'E', status),
        };
        let [a, b, c, d] = value.to_le_bytes();
        [kind, a, b, c, d]
    }

    pub(crate) fn decode([kind, a, b, c, d]: [u8; 5]) -> io::Result<Self> {
        let value = i32::from_le_bytes([a, b, c, d]);
        match kind {
            b'S' => Ok(Self::Started(value)),
            b'F' => Ok(Self::Failed(value)),
            b'E' => Ok(Self::Ended(value)),
            _ => Err(io::ErrorKind::InvalidData.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt as _;

    use super::*;

    #[tokio::test]
    async fn both_sides_understand_each_other() {
        for event in [Event::Started(7), Event::Failed(24), Event::Ended(-1)] {
            assert_eq!(Event::decode(event.encode()).unwrap(), event);
        }
        assert!(Event::decode(*b"?1234").is_err());
        let (mut one, mut other) = UnixStream::pair().unwrap();
        let header = Header { payload_bytes: 7, open_files: u64::MAX };
        one.write_all(&header.encode()).await.unwrap();
        assert_eq!(Header::read(&mut other).await.unwrap(), header);
    }
}
