//! Load comes from processes of their own, so that it costs what it costs in life. The two sides talk by lines:
//! the child says that it is ready, is told to go, and says what it found when its work or its input ends.

use std::{
    env,
    io::{Write as _, stdout},
    process::Stdio,
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines, Stdin, stdin},
    process::{ChildStdin, ChildStdout, Command},
    time::timeout,
};

use crate::{echo, paced, submit, work};

/// Longer than any child needs to say the next thing after it was told to go.
const PATIENCE: Duration = Duration::from_mins(90);

/// What a child does; given to it as its only argument.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    Submit(submit::Plan),
    Work(work::Plan),
    Paced(paced::Plan),
    Echo,
}

impl Role {
    /// The child's side: does it.
    pub async fn play(self) -> Result<()> {
        match self {
            Self::Submit(plan) => submit::play(plan, Parent::new()).await,
            Self::Work(plan) => work::play(plan, Parent::new()).await,
            Self::Paced(plan) => paced::play(plan, Parent::new()).await,
            Self::Echo => echo::play(Parent::new()).await,
        }
    }

    fn name(&self) -> &'static str {
        match self {
            Self::Submit(_) => "submit",
            Self::Work(_) => "work",
            Self::Paced(_) => "paced",
            Self::Echo => "echo",
        }
    }
}

/// A child, seen from here. It is killed when this is dropped.
pub struct Child {
    name: &'static str,
    process: tokio::process::Child,
    /// Closed once it is to end.
    input: Option<ChildStdin>,
    output: Lines<BufReader<ChildStdout>>,
}

impl Child {
    /// Starts it and waits until it is ready.
    pub async fn start(role: &Role) -> Result<Self> {
        let mut child = Self::spawn(role)?;
        let _: String = child.line().await?;
        Ok(child)
    }

    fn spawn(role: &Role) -> Result<Self> {
        let mut command = Command::new(env::current_exe()?);
        command.args(["child", &serde_json::to_string(role)?]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = command.kill_on_drop(true).spawn().context("cannot start a child process")?;
        let input = process.stdin.take();
        let output = BufReader::new(process.stdout.take().context("no output")?).lines();
        Ok(Self { name: role.name(), process, input, output })
    }

    pub fn pid(&self) -> u32 {
        self.process.id().unwrap_or_default()
    }

    pub async fn go(&mut self) -> Result<()> {
        let input = self.input.as_mut().context("its input is closed")?;
        input.write_all(b"go\n").await.with_context(|| format!("{} does not listen", self.name))
    }

    /// The next thing that it says.
    pub async fn line<T: DeserializeOwned>(&mut self) -> Result<T> {
        let line = timeout(PATIENCE, self.output.next_line()).await.context("a child says nothing")??;
        match line {
            Some(line) => serde_json::from_str(&line).with_context(|| format!("{} said {line}", self.name)),
            None => bail!("{} ended before it had said all ({})", self.name, self.process.wait().await?),
        }
    }

    /// Ends its input, hears its last words, and waits for its end.
    pub async fn finish<T: DeserializeOwned>(mut self) -> Result<T> {
        drop(self.input.take());
        let last = self.line().await?;
        self.process.wait().await?;
        Ok(last)
    }
}

/// Plays a role to its end and returns what it found.
pub async fn run<T: DeserializeOwned>(role: &Role) -> Result<T> {
    let mut child = Child::start(role).await?;
    child.go().await?;
    let found = child.line().await?;
    child.process.wait().await?;
    Ok(found)
}

/// The process that started this one, seen from the child.
pub struct Parent(Lines<BufReader<Stdin>>);

impl Parent {
    fn new() -> Self {
        Self(BufReader::new(stdin()).lines())
    }

    /// Says `ready` and waits to be told to go.
    pub async fn ready(&mut self, ready: &str) -> Result<()> {
        Self::say(&ready)?;
        match self.0.next_line().await? {
            Some(_) => Ok(()),
            None => bail!("never told to go"),
        }
    }

    /// Until the parent ends our input.
    pub async fn closed(&mut self) -> Result<()> {
        while self.0.next_line().await?.is_some() {}
        Ok(())
    }

    pub fn say(what: &impl Serialize) -> Result<()> {
        let mut out = stdout().lock();
        writeln!(out, "{}", serde_json::to_string(what)?)?;
        out.flush()?;
        Ok(())
    }
}
