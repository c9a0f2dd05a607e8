//! A task's command: its output, the signals that are meant for it, and its end.

use rustix::{
    io::Errno,
    process::{Pid, Signal, WaitOptions, WaitStatus, getpid, kill_process, wait, waitpid},
};
use std::{future::poll_fn, io, os::fd::OwnedFd, process::Command, task::Poll, time::Duration};
use tokio::{
    io::AsyncReadExt,
    net::unix::pipe,
    signal::unix::{self, SignalKind},
    time::{Instant, sleep_until},
};

/// How long the output is read on when the command has ended, but processes that it has left may still write to it. A
/// `tee` behind a shell that has ended is done in no time; a server would keep the task from ever ending.
const LINGER: Duration = Duration::from_secs(10);

/// Signals that are passed on.
const PASSED_ON: [Signal; 6] = [
    Signal::HUP,
    Signal::INT,
    Signal::QUIT,
    Signal::TERM,
    Signal::USR1,
    Signal::USR2,
];

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ended {
    /// Its exit code, or 128 more than the number of the signal that ended it.
    pub code: u8,
    /// Whether other processes still hold its output, which is not read any further.
    pub output_is_held: bool,
}

/// Runs a command to its end, and hands out what it and its children write to standard output and standard error, in
/// the order in which they write it.
///
/// Signals that ask to end are passed on to the command, which decides, also those that `signals` has taken before. The
/// process with the id 1 inherits the children of others and waits for them here.
///
/// # Errors
/// What the system says when the command cannot be started.
///
/// # Cancel safety
/// When dropped, the command goes on.
pub async fn run(
    mut command: Command,
    signals: &mut Signals,
    sink: &mut dyn FnMut(&[u8]),
) -> io::Result<Ended> {
    let (reader, writer) = io::pipe()?;
    command.stdout(writer.try_clone()?).stderr(writer);
    let child = Pid::from_child(&command.spawn()?);
    // It holds an end of the pipe for writing.
    drop(command);
    let mut output = Some(pipe::Receiver::from_owned_fd(OwnedFd::from(reader))?);
    let mut chunk = vec![0; 1 << 16];
    let mut ended: Option<(u8, Instant)> = None;
    loop {
        let until = match (&output, ended) {
            (None, Some(_)) => break,
            (_, ended) => ended.map(|(_, at)| at + LINGER),
        };
        tokio::select! {
            read = read(output.as_mut(), &mut chunk) => match read? {
                0 => output = None,
                length => sink(&chunk[..length]),
            },
            signal = signals.next() => match (signal, ended) {
                (None, None) => ended = reap(child)?.map(|code| (code, Instant::now())),
                (None, Some(_)) => _ = reap(child)?,
                // It may end at just this moment.
                (Some(signal), None) => _ = kill_process(child, signal),
                (Some(_), Some(_)) => break,
            },
            () = expired(until) => break,
        }
    }
    Ok(Ended {
        code: ended.map_or(1, |(code, _)| code),
        output_is_held: output.is_some(),
    })
}

/// Reads from what is still open.
async fn read(output: Option<&mut pipe::Receiver>, chunk: &mut [u8]) -> io::Result<usize> {
    match output {
        Some(output) => output.read(chunk).await,
        None => std::future::pending().await,
    }
}

async fn expired(until: Option<Instant>) {
    match until {
        Some(until) => sleep_until(until).await,
        None => std::future::pending().await,
    }
}

/// Waits for whoever has ended, and returns the exit code of `child` if it is among them.
fn reap(child: Pid) -> io::Result<Option<u8>> {
    let inherits = getpid() == Pid::INIT;
    let mut code = None;
    loop {
        let ended = if inherits {
            wait(WaitOptions::NOHANG)
        } else {
            waitpid(Some(child), WaitOptions::NOHANG)
        };
        match ended {
            Ok(Some((pid, status))) if pid == child => code = Some(exit_code(status)),
            Ok(Some(_)) | Err(Errno::INTR) => {}
            Ok(None) | Err(Errno::CHILD) => return Ok(code),
            Err(err) => return Err(err.into()),
        }
    }
}

fn exit_code(status: WaitStatus) -> u8 {
    let code = match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => code,
        (None, Some(signal)) => 128 + signal,
        (None, None) => 1,
    };
    u8::try_from(code).unwrap_or(u8::MAX)
}

/// The signals that arrive here instead of ending the process.
pub struct Signals {
    children: unix::Signal,
    passed_on: Vec<(unix::Signal, Signal)>,
}

impl Signals {
    /// Takes them over, in an async runtime. From then on none is lost.
    ///
    /// # Errors
    /// What the system says.
    pub fn take_over() -> io::Result<Self> {
        let passed_on = PASSED_ON.map(|signal| {
            let kind = SignalKind::from_raw(signal.as_raw());
            Ok((unix::signal(kind)?, signal))
        });
        Ok(Self {
            children: unix::signal(SignalKind::child())?,
            passed_on: passed_on.into_iter().collect::<io::Result<_>>()?,
        })
    }

    /// Waits for the next signal that is to be passed on; `None` means that a child has ended.
    async fn next(&mut self) -> Option<Signal> {
        poll_fn(|context| {
            for (signals, signal) in &mut self.passed_on {
                if signals.poll_recv(context).is_ready() {
                    return Poll::Ready(Some(*signal));
                }
            }
            self.children.poll_recv(context).map(|_| None)
        })
        .await
    }
}
