//! Progress on standard error: a bar on a terminal, a line now and then in a log, nothing with `-q`.
//!
//! The engine counts from many threads; one thread of ours looks at the counts and draws.

mod board;
mod painter;

use std::io::{self, IsTerminal};
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

pub(crate) use board::Board;
use painter::{BarPainter, LinePainter, Painter};
use parking_lot::Mutex;

/// How often a bar is drawn.
const BAR_INTERVAL: Duration = Duration::from_millis(100);
/// How often a line is written.
const LINE_INTERVAL: Duration = Duration::from_secs(5);

/// Progress that is being shown until this is dropped.
pub(crate) struct Progress {
    board: Arc<Board>,
    painter: Option<Arc<Mutex<Box<dyn Painter>>>>,
    thread: Option<(Sender<()>, JoinHandle<()>)>,
}

impl Progress {
    /// Begins. `lines` asks for lines even on a terminal, as beside a log.
    pub(crate) fn start(quiet: bool, lines: bool) -> Progress {
        let board = Arc::new(Board::default());
        if quiet {
            return Progress { board, painter: None, thread: None };
        }
        let (painter, interval): (Box<dyn Painter>, Duration) = match io::stderr().is_terminal() && !lines {
            true => (Box::new(BarPainter::new()), BAR_INTERVAL),
            false => (Box::new(LinePainter::default()), LINE_INTERVAL),
        };
        let painter = Arc::new(Mutex::new(painter));
        let (stop, stopped) = channel();
        let (seen, drawn) = (board.clone(), painter.clone());
        let run = move || {
            while stopped.recv_timeout(interval) == Err(RecvTimeoutError::Timeout) {
                if let Some(view) = seen.view() {
                    drawn.lock().draw(&view);
                }
            }
        };
        // Without a thread there is no progress to see, and nothing else is lost.
        let thread = std::thread::Builder::new().name("progress".into()).spawn(run).ok();
        Progress { board, painter: Some(painter), thread: thread.map(|thread| (stop, thread)) }
    }

    /// Where the counts go.
    pub(crate) fn board(&self) -> Arc<Board> {
        self.board.clone()
    }

    /// Clears the bar and holds it back while `speak` uses the terminal.
    pub(crate) fn pause<T>(&self, speak: impl FnOnce() -> T) -> T {
        let Some(painter) = &self.painter else { return speak() };
        let mut painter = painter.lock();
        painter.clear();
        speak()
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some((stop, thread)) = self.thread.take() {
            drop(stop);
            let _ = thread.join();
        }
        if let Some(painter) = &self.painter {
            painter.lock().clear();
        }
    }
}
