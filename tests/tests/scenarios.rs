//! Runs scenario files and compares every output.
//!
//! The project's own are in `tests/scenarios`. `RAFT_SCENARIOS=DIR[:DIR...]`
//! adds folders: either with the subfolders `interaction`, `quorum`,
//! `confchange` and `differential`, or flat with cluster scenarios. A relative
//! folder is looked for where the command was started, then at the root of the
//! workspace. `RAFT_SCENARIOS_REWRITE=1` writes what the project's own scenarios
//! print into them instead.

use std::env;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use raft_tests::runner::{self, RunnerError, ScenarioFile};

fn main() -> ExitCode {
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios");
    if env::var_os("RAFT_SCENARIOS_REWRITE").is_some_and(|value| value == "1") {
        return match rewrite(&own) {
            Ok(count) => {
                println!("{count} scenarios rewritten; read them before they are kept");
                ExitCode::SUCCESS
            }
            Err(why) => {
                eprintln!("{why}");
                ExitCode::FAILURE
            }
        };
    }
    let files = match scenario_files(&own) {
        Ok(files) => files,
        Err(why) => {
            eprintln!("{why}");
            return ExitCode::FAILURE;
        }
    };
    let mut failed = 0;
    for file in &files {
        if let Err(why) = run(file) {
            failed += 1;
            println!("FAILED {}: {why}\n", file.name);
        }
    }
    println!("{} passed, {failed} failed", files.len() - failed);
    if failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// A panic in one scenario must not hide the others.
fn run(file: &ScenarioFile) -> Result<(), String> {
    let text = runner::read(file).map_err(|why| why.to_string())?;
    match catch_unwind(AssertUnwindSafe(|| {
        runner::first_difference(file.kind, &text)
    })) {
        Ok(Ok(None)) => Ok(()),
        Ok(Ok(Some(difference))) => Err(difference.to_string()),
        Ok(Err(why)) => Err(why.to_string()),
        Err(_) => Err("a panic (its message is above)".to_owned()),
    }
}

fn scenario_files(own: &Path) -> Result<Vec<ScenarioFile>, RunnerError> {
    let mut files = runner::scenarios_in(own)?;
    let bases = bases();
    for folder in env::var_os("RAFT_SCENARIOS")
        .iter()
        .flat_map(env::split_paths)
        .filter(|folder| !folder.as_os_str().is_empty())
    {
        let folder = runner::find_folder(&folder, &bases)?;
        files.extend(runner::scenarios_in(&folder)?);
    }
    Ok(files)
}

/// Cargo runs tests in the package's folder; the shell says where it was told
/// to.
fn bases() -> Vec<PathBuf> {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    let workspace = package.parent().unwrap_or(package);
    let shell = env::var_os("PWD").map(PathBuf::from);
    shell
        .into_iter()
        .chain(env::current_dir())
        .chain([workspace.to_owned()])
        .collect()
}

fn rewrite(own: &Path) -> Result<usize, String> {
    let files = runner::scenarios_in(own).map_err(|why| why.to_string())?;
    for file in &files {
        let text = runner::read(file).map_err(|why| why.to_string())?;
        let new =
            runner::rewritten(file.kind, &text).map_err(|why| format!("{}: {why}", file.name))?;
        fs::write(&file.path, new).map_err(|why| format!("{}: {why}", file.name))?;
    }
    Ok(files.len())
}
