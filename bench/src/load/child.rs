//! Child process that produces load, seen from the bench: its role, its start, and the lines that it sends.
//!
//! Load comes from processes of its own, so that it costs what it costs in production. Parent and child exchange lines:
//! the child says that it is ready, is told to go, and reports its result when its work or its input ends.

use std::{env, process::Stdio, time::Duration};

use anyhow::{Context as _, Result, bail};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines},
    process::{ChildStdin, ChildStdout, Command},
    time::timeout,
};

use super::{
    echo,
    paced::{self, PacedPlan},
    parent::Parent,
    submit::{self, SubmitPlan},
    work::{self, WorkPlan},
};

/// Time limit of a child's next line, longer than any child needs after it was told to go.
const NEXT_LINE_WITHIN: Duration = Duration::from_mins(90);

/// Role of a child, passed as its only argument.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    Submit(SubmitPlan),
    Work(WorkPlan),
    Paced(PacedPlan),
    Echo,
}

impl Role {
    /// Plays the role, in the child.
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

/// Child process, seen from its parent. It is killed when this is dropped.
pub struct Child {
    name: &'static str,
    process: tokio::process::Child,
    /// Closed to tell the child to end.
    input: Option<ChildStdin>,
    output: Lines<BufReader<ChildStdout>>,
}

impl Child {
    /// Starts a child and waits until it is ready.
    pub async fn start(role: &Role) -> Result<Self> {
        let mut child = Self::spawn(role)?;
        let _: String = child.receive().await?;
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

    /// Reads the child's next line.
    pub async fn receive<T: DeserializeOwned>(&mut self) -> Result<T> {
        let line = timeout(NEXT_LINE_WITHIN, self.output.next_line()).await.context("a child says nothing")??;
        match line {
            Some(line) => serde_json::from_str(&line).with_context(|| format!("{} said {line}", self.name)),
            None => bail!("{} ended before it had said all ({})", self.name, self.process.wait().await?),
        }
    }

    /// Closes the child's input, reads its last line, and waits for its end.
    pub async fn finish<T: DeserializeOwned>(mut self) -> Result<T> {
        drop(self.input.take());
        let last = self.receive().await?;
        self.process.wait().await?;
        Ok(last)
    }
}

/// Plays a role to its end in a child, and returns the child's result.
pub async fn run<T: DeserializeOwned>(role: &Role) -> Result<T> {
    let mut child = Child::start(role).await?;
    child.go().await?;
    let found = child.receive().await?;
    child.process.wait().await?;
    Ok(found)
}
