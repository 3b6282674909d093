//! # The runner
//!
//! Finds scenario files, runs them, and says where each first differs from what
//! it expects.
//!
//! - Owns: nothing.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::confchange::Changer;
use crate::environment::{Broken, Environment};
use crate::quorum;
use crate::script::{Command, Script, ScriptError};

/// Which language a file is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Commands to a cluster.
    Cluster,
    /// Committed indexes and votes.
    Quorum,
    /// Configurations and their changes.
    ConfChange,
}

/// A file of a folder of scenarios.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScenarioFile {
    /// The language.
    pub kind: Kind,
    /// Where it is.
    pub path: PathBuf,
    /// What to call it.
    pub name: String,
}

/// A file that cannot be run.
#[derive(Debug, thiserror::Error)]
pub enum RunnerError {
    /// A folder or file cannot be read or written.
    #[error("{path} cannot be opened: {error}")]
    Io {
        /// Which one.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// A folder has no scenarios.
    #[error(
        "{0} has no scenarios: no *.txt, and none in interaction/, quorum/, confchange/ or differential/"
    )]
    Empty(PathBuf),
    /// A folder is nowhere to be found.
    #[error("there is no folder {name}; looked at {}", places(.looked_at))]
    Missing {
        /// What was asked for.
        name: PathBuf,
        /// Where it could have been.
        looked_at: Vec<PathBuf>,
    },
    /// The file is not a script.
    #[error(transparent)]
    Script(#[from] ScriptError),
}

fn places(paths: &[PathBuf]) -> String {
    let paths: Vec<String> = paths
        .iter()
        .map(|path| path.display().to_string())
        .collect();
    paths.join(", ")
}

/// The first thing in a file that is not as expected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The line in the file, counted from 1.
    pub line: usize,
    /// The command that printed something else, and its line.
    pub command: String,
    /// What the line says; `None` behind the end of what is expected.
    pub expected: Option<String>,
    /// What was printed instead; `None` where nothing more was printed.
    pub got: Option<String>,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let show = |line: &Option<String>| match line {
            Some(line) => format!("|{line}"),
            None => "(end of output)".to_owned(),
        };
        writeln!(f, "line {}, in the output of {}", self.line, self.command)?;
        writeln!(f, "  expected: {}", show(&self.expected))?;
        write!(f, "  got:      {}", show(&self.got))
    }
}

/// What runs the commands of one file.
enum Subject {
    Cluster(Box<Environment>),
    Quorum,
    ConfChange(Box<Changer>),
}

impl Subject {
    fn new(kind: Kind) -> Self {
        match kind {
            Kind::Cluster => Self::Cluster(Box::default()),
            Kind::Quorum => Self::Quorum,
            Kind::ConfChange => Self::ConfChange(Box::default()),
        }
    }

    fn run(&mut self, command: &Command) -> Result<String, Broken> {
        match self {
            Self::Cluster(environment) => environment.run(command),
            Self::Quorum => Ok(quorum::run(command)?),
            Self::ConfChange(changer) => Ok(changer.run(command)?),
        }
    }
}

/// Runs a script up to the first difference.
///
/// # Errors
/// The text is not a script.
pub fn first_difference(kind: Kind, text: &str) -> Result<Option<Difference>, ScriptError> {
    let script = Script::parse(text)?;
    let mut subject = Subject::new(kind);
    for directive in &script.directives {
        let output = subject
            .run(&directive.command)
            .unwrap_or_else(|broken| broken.to_string());
        let mut expected = directive.expected.lines();
        let mut got = output.lines();
        let mut line = directive.expected_line;
        loop {
            let pair = (expected.next(), got.next());
            match pair {
                (None, None) => break,
                (a, b) if a == b => line += 1,
                (a, b) => {
                    return Ok(Some(Difference {
                        line,
                        command: shown(directive.line, &directive.command),
                        expected: a.map(str::to_owned),
                        got: b.map(str::to_owned),
                    }));
                }
            }
        }
    }
    Ok(None)
}

fn shown(line: usize, command: &Command) -> String {
    let words: Vec<&str> = std::iter::once(command.name.as_str())
        .chain(command.words())
        .collect();
    format!("`{}` (line {line})", words.join(" "))
}

/// Runs a script and puts what it prints in place of what it expected.
///
/// # Errors
/// The text is not a script, or cannot be run to the end.
pub fn rewritten(kind: Kind, text: &str) -> Result<String, Broken> {
    let script = Script::parse(text)?;
    let mut subject = Subject::new(kind);
    let outputs = script
        .directives
        .iter()
        .map(|directive| subject.run(&directive.command))
        .collect::<Result<Vec<_>, Broken>>()?;
    Ok(script.with_outputs(&outputs))
}

/// The scenarios in a folder: its own files, which command a cluster, or those
/// in the four subfolders that the reference's data has.
///
/// # Errors
/// The folder cannot be read, or has no scenarios.
pub fn scenarios_in(folder: &Path) -> Result<Vec<ScenarioFile>, RunnerError> {
    let mut files = Vec::new();
    for (subfolder, kind) in [
        ("interaction", Kind::Cluster),
        ("quorum", Kind::Quorum),
        ("confchange", Kind::ConfChange),
        ("differential", Kind::Cluster),
    ] {
        let path = folder.join(subfolder);
        if path.is_dir() {
            files.extend(scripts_in(&path, kind, &format!("{subfolder}/"))?);
        }
    }
    if files.is_empty() {
        files = scripts_in(folder, Kind::Cluster, "")?;
    }
    if files.is_empty() {
        return Err(RunnerError::Empty(folder.to_owned()));
    }
    Ok(files)
}

fn scripts_in(folder: &Path, kind: Kind, prefix: &str) -> Result<Vec<ScenarioFile>, RunnerError> {
    let failed = |error| RunnerError::Io {
        path: folder.to_owned(),
        error,
    };
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if path.extension().is_some_and(|extension| extension == "txt") {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            files.push(ScenarioFile {
                kind,
                name: format!("{prefix}{name}"),
                path,
            });
        }
    }
    files.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(files)
}

/// The folder that `name` means, seen from the first of `bases` that has it.
///
/// # Errors
/// None has it.
pub fn find_folder(name: &Path, bases: &[PathBuf]) -> Result<PathBuf, RunnerError> {
    let looked_at: Vec<PathBuf> = bases.iter().map(|base| base.join(name)).collect();
    match looked_at.iter().find(|path| path.is_dir()) {
        Some(found) => Ok(found.clone()),
        None => Err(RunnerError::Missing {
            name: name.to_owned(),
            looked_at,
        }),
    }
}

/// Reads a scenario file.
///
/// # Errors
/// It cannot be read.
pub fn read(file: &ScenarioFile) -> Result<String, RunnerError> {
    fs::read_to_string(&file.path).map_err(|error| RunnerError::Io {
        path: file.path.clone(),
        error,
    })
}
