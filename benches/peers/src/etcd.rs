//! # etcd's raft under both loads
//!
//! Builds the Go program in `etcd/` where Go is installed, and asks it for one
//! figure at a time, so that it takes its turns like everybody else.
//!
//! - Owns: the built program.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::core_load::Load;

pub struct Etcd {
    program: PathBuf,
}

impl Etcd {
    /// Builds the program; if it cannot be built, a sentence that says why.
    pub fn build() -> Result<Self, String> {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("etcd");
        let program = std::env::temp_dir().join(format!("etcd-peer-{}", std::process::id()));
        let built = Command::new("go")
            .args(["build", "-o"])
            .arg(&program)
            .arg(".")
            .current_dir(source)
            .output();
        match built {
            Ok(output) if output.status.success() => Ok(Self { program }),
            Ok(output) => Err(format!(
                "etcd's raft is left out, since its program in benches/peers/etcd does not \
                 build: {}",
                String::from_utf8_lossy(&output.stderr).trim()
            )),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Err(
                "etcd's raft is left out, since Go is not installed; with `go` in the PATH it \
                 is measured as well."
                    .to_owned(),
            ),
            Err(error) => Err(format!(
                "etcd's raft is left out, since Go cannot be run: {error}"
            )),
        }
    }

    fn ask(&self, arguments: &[String]) -> Result<f64, String> {
        let output = Command::new(&self.program)
            .args(arguments)
            .output()
            .map_err(|error| format!("etcd's program cannot be run: {error}"))?;
        let said = String::from_utf8_lossy(&output.stdout);
        said.trim().parse().map_err(|_| {
            let complaint = String::from_utf8_lossy(&output.stderr);
            format!(
                "etcd's program, asked for {}, gave no figure: {said}{complaint}",
                arguments.join(" ")
            )
        })
    }

    /// Nanoseconds per entry.
    pub fn core(&self, load: Load, time: Duration) -> Result<f64, String> {
        self.ask(&[
            "core".to_owned(),
            load.batch.to_string(),
            load.payload_bytes.to_string(),
            time.as_millis().to_string(),
        ])
    }

    /// Commands per second.
    pub fn node(&self, clients: usize, time: Duration) -> Result<f64, String> {
        self.ask(&[
            "node".to_owned(),
            clients.to_string(),
            time.as_millis().to_string(),
        ])
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        // What stays behind is in the folder for temporary files.
        let _ = std::fs::remove_file(&self.program);
    }
}
