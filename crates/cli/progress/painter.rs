//! Two ways to show a view: a bar that is drawn over, and lines that stay.

use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::board::View;
use crate::output;
use crate::report;

/// Bar with bytes whose total is known.
const BYTES_OF: &str =
    "{msg} [{bar:24}] {decimal_bytes} of {decimal_total_bytes}, {decimal_bytes_per_sec}, {eta} left{prefix}";
/// Bytes without a total.
const BYTES: &str = "{spinner} {msg} {decimal_bytes}, {decimal_bytes_per_sec}, {elapsed}{prefix}";
/// Things whose total is known.
const THINGS_OF: &str = "{msg} [{bar:24}] {pos} of {len}, {eta} left{prefix}";
/// Things without a total.
const THINGS: &str = "{spinner} {msg}{prefix}";

/// Shows views.
pub(super) trait Painter: Send {
    /// Shows `view` in place of the one before.
    fn draw(&mut self, view: &View);

    /// Takes away what is shown.
    fn clear(&mut self);
}

/// A bar on a terminal.
pub(super) struct BarPainter {
    bar: ProgressBar,
    drawn: Option<(u64, Option<u64>)>,
}

impl BarPainter {
    pub(super) fn new() -> BarPainter {
        BarPainter { bar: ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden()), drawn: None }
    }
}

impl Painter for BarPainter {
    fn draw(&mut self, view: &View) {
        if self.drawn != Some((view.number, view.total)) {
            self.drawn = Some((view.number, view.total));
            let template = match (view.in_bytes, view.total) {
                (true, Some(_)) => BYTES_OF,
                (true, None) => BYTES,
                (false, Some(_)) => THINGS_OF,
                (false, None) => THINGS,
            };
            self.bar.finish_and_clear();
            self.bar = ProgressBar::with_draw_target(view.total, ProgressDrawTarget::stderr());
            // The templates are constant and right; a bar of another form would do as well.
            if let Ok(style) = ProgressStyle::with_template(template) {
                self.bar.set_style(style.progress_chars("=> "));
            }
            self.bar.set_message(view.label.clone());
        }
        if let Some(stored_bytes) = view.stored_bytes {
            self.bar.set_prefix(format!(", {} stored", output::size(stored_bytes)));
        }
        self.bar.set_position(view.done);
        self.bar.tick();
    }

    fn clear(&mut self) {
        self.bar.finish_and_clear();
        self.drawn = None;
    }
}

/// Lines in a log.
#[derive(Default)]
pub(super) struct LinePainter {
    last: Option<(u64, u64, Instant)>,
}

impl Painter for LinePainter {
    fn draw(&mut self, view: &View) {
        let now = Instant::now();
        let before = self.last.replace((view.number, view.done, now));
        let speed = before.filter(|(number, ..)| *number == view.number).map(|(_, done, then)| {
            let elapsed = now.duration_since(then).max(Duration::from_millis(1));
            view.done.saturating_sub(done) as f64 / elapsed.as_secs_f64()
        });
        report::note(&line(view, speed));
    }

    fn clear(&mut self) {}
}

/// A view in words; `speed` is what was done lately, a second.
fn line(view: &View, speed: Option<f64>) -> String {
    let words = |amount: u64| if view.in_bytes { output::size(amount) } else { amount.to_string() };
    let mut text = match view.total {
        Some(total) => format!("{}: {} of {}", view.label, words(view.done), words(total)),
        None if view.in_bytes => format!("{}: {}", view.label, words(view.done)),
        None => view.label.clone(),
    };
    if let Some(speed) = speed.filter(|speed| view.in_bytes && *speed >= 1.0) {
        text += &format!(", {}/s", output::size(speed as u64));
        if let Some(total) = view.total {
            let left_ms = total.saturating_sub(view.done) as f64 / speed * 1000.0;
            text += &format!(", {} left", output::duration(left_ms as u64));
        }
    }
    if let Some(stored_bytes) = view.stored_bytes {
        text += &format!(", {} stored", output::size(stored_bytes));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_tell_rate_and_time_left() {
        let view = View {
            number: 1,
            label: "users".into(),
            done: 2_000_000_000,
            total: Some(3_000_000_000),
            in_bytes: true,
            stored_bytes: None,
        };
        assert_eq!(line(&view, None), "users: 2.0 GB of 3.0 GB");
        assert_eq!(line(&view, Some(1e8)), "users: 2.0 GB of 3.0 GB, 100 MB/s, 10.0 s left");
        let backup = View { total: None, stored_bytes: Some(5000), ..view };
        assert_eq!(line(&backup, Some(1e8)), "users: 2.0 GB, 100 MB/s, 5.0 kB stored");
    }

    #[test]
    fn templates_are_right() {
        for template in [BYTES_OF, BYTES, THINGS_OF, THINGS] {
            assert!(ProgressStyle::with_template(template).is_ok(), "{template}");
        }
    }
}
