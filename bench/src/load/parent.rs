//! Parent of a child process, seen from the child: when to begin, when to end, and where results go.

use std::io::{Write as _, stdout};

use anyhow::{Result, bail};
use serde::Serialize;
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines, Stdin, stdin};

/// Parent process, seen from the child.
pub struct Parent(Lines<BufReader<Stdin>>);

impl Parent {
    pub(crate) fn new() -> Self {
        Self(BufReader::new(stdin()).lines())
    }

    /// Reports `ready`, and waits to be told to go.
    pub async fn ready(&mut self, ready: &str) -> Result<()> {
        Self::send(&ready)?;
        match self.0.next_line().await? {
            Some(_) => Ok(()),
            None => bail!("never told to go"),
        }
    }

    /// Waits until the parent closes this process's input.
    pub async fn closed(&mut self) -> Result<()> {
        while self.0.next_line().await?.is_some() {}
        Ok(())
    }

    /// Sends a line to the parent.
    pub fn send(line: &impl Serialize) -> Result<()> {
        let mut out = stdout().lock();
        writeln!(out, "{}", serde_json::to_string(line)?)?;
        out.flush()?;
        Ok(())
    }
}
