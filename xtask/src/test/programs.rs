//! Test programs of all parts, built by one call of cargo, so that code that they share is compiled once.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};
use serde_json::Value;

use super::parts::Part;
use crate::cargo::{cargo, test_features};
use crate::process;
use crate::progress::Step;
use crate::workspace::Workspace;

/// Test program that cargo has built.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Program {
    /// Name of its target: of a crate, or of an integration test.
    pub(crate) name: String,
    /// True for an integration test of a folder `tests`, false for the tests inside a crate.
    pub(crate) integration: bool,
    executable: PathBuf,
    /// Folder of its crate, where cargo would run it.
    folder: PathBuf,
}

impl Program {
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(&self.executable);
        command.current_dir(&self.folder).env("CARGO_MANIFEST_DIR", &self.folder);
        command
    }
}

/// Builds the test programs of the parts, and the programs and examples that the tests start.
pub(crate) fn build(workspace: &Workspace, parts: &[Part], step: &Step) -> Result<()> {
    let mut build = cargo();
    build.current_dir(&workspace.root).env("CARGO_TERM_COLOR", "never");
    // Always the whole workspace, so that all builds agree on features and share their dependencies.
    build.args(["build", "--workspace", "--message-format=json-render-diagnostics"]).args(targets(parts));
    build.args(test_features(Part::any_needs_dashboard(parts)));
    process::logged_to(&mut build, &list(workspace), &workspace.log("build"), step)
}

/// Test programs of the last build.
pub(crate) fn built(workspace: &Workspace) -> Result<Vec<Program>> {
    let list = list(workspace);
    let text = std::fs::read_to_string(&list).with_context(|| format!("cannot read {}", list.display()))?;
    let mut programs: Vec<Program> = text.lines().filter_map(parse).collect();
    programs.sort_by(|a, b| (a.integration, &a.folder, &a.name).cmp(&(b.integration, &b.folder, &b.name)));
    Ok(programs)
}

/// Path of cargo's report of the build.
fn list(workspace: &Workspace) -> PathBuf {
    workspace.log("build").with_extension("json")
}

/// Options for the kinds of targets that the parts need. Unit and integration tests are built together, because both
/// are compiled with the dependencies of tests.
fn targets(parts: &[Part]) -> Vec<&'static str> {
    let mut targets = vec!["--lib", "--bins", "--tests"];
    targets.extend(parts.contains(&Part::Examples).then_some("--examples"));
    targets
}

/// Test program that a line of cargo's report describes, if any.
fn parse(line: &str) -> Option<Program> {
    let message: Value = serde_json::from_str(line).ok()?;
    if message["reason"] != "compiler-artifact" || message["profile"]["test"] != true {
        return None;
    }
    Some(Program {
        name: message["target"]["name"].as_str()?.to_owned(),
        integration: message["target"]["kind"][0] == "test",
        executable: message["executable"].as_str()?.into(),
        folder: Path::new(message["manifest_path"].as_str()?).parent()?.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn builds_with_and_without_tests_agree_on_the_features_of_all_dependencies() {
        let crates = |edges: &str| -> std::collections::BTreeSet<String> {
            let mut tree = cargo();
            tree.current_dir(env!("CARGO_MANIFEST_DIR")).args(["tree", "--locked", "--offline", "--workspace"]);
            tree.args(["--prefix", "none", "--no-dedupe", "--format", "{p} {f}", "--edges", edges])
                .args(test_features(true));
            process::output(&mut tree).unwrap().lines().map(str::to_owned).collect()
        };
        let (without, with) = (crates("normal,build"), crates("normal,build,dev"));
        let compiled_twice: Vec<&String> = without.difference(&with).collect();
        assert!(
            compiled_twice.is_empty(),
            "tests/Cargo.toml has to ask for the features that differ: {compiled_twice:?}"
        );
    }

    #[test]
    fn test_programs_are_told_from_what_else_was_built() {
        let line = |kind: &str, test: bool, executable: &str| {
            format!(
                r#"{{"reason":"compiler-artifact","manifest_path":"/r/tests/Cargo.toml","target":{{"kind":["{kind}"],
                "name":"e2e"}},"profile":{{"test":{test}}},"executable":{executable}}}"#
            )
            .replace('\n', "")
        };
        let program = parse(&line("test", true, r#""/t/debug/deps/e2e-1""#)).unwrap();
        assert!(program.integration && program.name == "e2e" && program.folder == Path::new("/r/tests"));
        assert_eq!(program.command().get_program(), "/t/debug/deps/e2e-1");
        assert!(!parse(&line("lib", true, r#""/t/debug/deps/e2e-1""#)).unwrap().integration);
        assert_eq!(parse(&line("bin", false, r#""/t/debug/e2e""#)), None);
        assert_eq!(parse(&line("lib", true, "null")), None);
        assert_eq!(parse(r#"{"reason":"build-finished","success":true}"#), None);
        assert_eq!(parse("warning: text"), None);
    }
}
