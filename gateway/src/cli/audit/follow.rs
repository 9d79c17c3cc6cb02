//! `codex-relay audit tail`

use super::super::output::{Format, stdout};
use super::Stop;
use super::print::Printer;
use super::source::Source;
use std::io;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};

/// Between two looks at the journal.
const PAUSE: Duration = Duration::from_millis(200);

/// How much of the journal is looked at for what has ended before: it should not take longer than a moment.
const LOOK_BACK_BYTES: u64 = 256 << 20;

pub(super) fn run(source: &Source<'_>, count: usize, format: Format) -> Result<(), Stop> {
    let interrupted = interrupted()?;
    let mut printer = Printer::new(stdout(), format);
    let newest = source.newest(count, LOOK_BACK_BYTES)?;
    let mut entries = source.open(newest.from..u64::MAX)?;
    loop {
        source.read(
            &mut entries,
            |entry| printer.push(entry),
            |lost| eprintln!("{lost}"),
        )?;
        printer.flush()?;
        match interrupted.recv_timeout(PAUSE) {
            Err(RecvTimeoutError::Timeout) => {}
            Ok(()) | Err(RecvTimeoutError::Disconnected) => return Ok(()),
        }
    }
}

/// Receives something when Ctrl-C has been pressed.
fn interrupted() -> io::Result<Receiver<()>> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()?;
    let mut interrupt = {
        let _entered = runtime.enter();
        signal(SignalKind::interrupt())?
    };
    let (sender, receiver) = mpsc::channel();
    thread::Builder::new()
        .name("interrupt".to_owned())
        .spawn(move || {
            runtime.block_on(interrupt.recv());
            // Whoever would receive it has ended already.
            let _ = sender.send(());
        })?;
    Ok(receiver)
}
