//! # Being asked to stop
//!
//! By a signal, or by the end of standard input.

use std::future::Future;
use std::io;
use std::process::ExitCode;

use tokio::sync::watch;

use super::ShownError;

/// Turns true when this process is asked to stop.
pub(super) fn stop_signal(until_stdin_ends: bool) -> Result<watch::Receiver<bool>, ShownError> {
    let signals = termination()?;
    let (stop, stopped) = watch::channel(false);
    tokio::spawn(async move {
        if until_stdin_ends {
            tokio::select! {
                () = signals => {}
                () = stdin_ends() => {}
            }
        } else {
            signals.await;
        }
        // Nobody listens if the node has failed already.
        let _ = stop.send(true);
    });
    Ok(stopped)
}

/// Waits on a thread of its own, which nobody has to wait for in turn: a read
/// from standard input cannot be called off.
async fn stdin_ends() {
    let (ended, end) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || {
        let copied = io::copy(&mut io::stdin(), &mut io::sink());
        // The process may be stopping for another reason.
        let _ = ended.send(copied);
    });
    // However it ended, there is nobody at the other end any more.
    let _ = end.await;
}

#[cfg(unix)]
fn termination() -> Result<impl Future<Output = ()>, ShownError> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

#[cfg(not(unix))]
fn termination() -> Result<impl Future<Output = ()>, ShownError> {
    Ok(async {
        // Without signals only the end of standard input stops this process.
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    })
}

/// Does `work` unless this process is asked to stop. Dropping the work kills
/// the nodes that it started.
pub(super) async fn or_interrupted(
    work: impl Future<Output = Result<ExitCode, ShownError>>,
) -> Result<ExitCode, ShownError> {
    let interrupted = termination()?;
    tokio::select! {
        done = work => done,
        () = interrupted => Err("interrupted; the nodes that were started are stopped".into()),
    }
}
