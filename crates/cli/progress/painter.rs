//! Two ways to show a view: a bar that is drawn over, and lines that stay.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::board::View;
use crate::output;
use crate::report;

/// What is done of a known total.
const BAR: &str = "{msg} [{bar:24}] {prefix}";
/// What is done, without a total.
const SPINNER: &str = "{spinner} {msg}: {prefix}";
/// How far the speed looks back.
const SPEED_WINDOW: Duration = Duration::from_secs(6);

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
    speed: Speed,
}

impl BarPainter {
    pub(super) fn new() -> BarPainter {
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden());
        BarPainter { bar, drawn: None, speed: Speed::default() }
    }
}

impl Painter for BarPainter {
    fn draw(&mut self, view: &View) {
        let this = Some((view.number, view.total));
        if self.drawn != this {
            self.drawn = this;
            self.bar.finish_and_clear();
            self.bar = ProgressBar::with_draw_target(view.total, ProgressDrawTarget::stderr());
            let template = if view.total.is_some() { BAR } else { SPINNER };
            // The templates are constant and right; a bar of another form would do as well.
            if let Ok(style) = ProgressStyle::with_template(template) {
                self.bar.set_style(style.progress_chars("=> "));
            }
            self.bar.set_message(view.label.clone());
        }
        self.bar.set_prefix(amounts(view, self.speed.of(view, Instant::now())));
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
    speed: Speed,
}

impl Painter for LinePainter {
    fn draw(&mut self, view: &View) {
        let speed = self.speed.of(view, Instant::now());
        report::note(&format!("{}: {}", view.label, amounts(view, speed)));
    }

    fn clear(&mut self) {}
}

/// How fast it went lately.
#[derive(Default)]
struct Speed {
    number: u64,
    samples: VecDeque<(Instant, u64)>,
}

impl Speed {
    /// A second; `None` while that can't be told.
    fn of(&mut self, view: &View, now: Instant) -> Option<f64> {
        if self.number != view.number {
            self.number = view.number;
            self.samples.clear();
        }
        self.samples.push_back((now, view.done));
        while self.samples.len() > 2 && now.duration_since(self.samples[0].0) > SPEED_WINDOW {
            self.samples.pop_front();
        }
        let (then, done) = self.samples[0];
        let elapsed_s = now.duration_since(then).as_secs_f64();
        (elapsed_s >= 0.5).then(|| view.done.saturating_sub(done) as f64 / elapsed_s)
    }
}

/// How much is done, how fast, and what is left.
fn amounts(view: &View, speed: Option<f64>) -> String {
    let words = |amount: u64| if view.in_bytes { output::size(amount) } else { amount.to_string() };
    let mut text = match view.total {
        Some(total) => format!("{} of {}", words(view.done), words(total)),
        None if view.in_bytes => words(view.done),
        None => "…".to_owned(),
    };
    if let Some(speed) = speed.filter(|speed| view.in_bytes && *speed >= 1.0) {
        text += &format!(", {}/s", output::size(speed as u64));
        if let Some(total) = view.total {
            let left_s = total.saturating_sub(view.done) as f64 / speed;
            text += &format!(", {} left", output::duration(left_s.ceil() as u64 * 1000));
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

    fn view(done: u64, total: Option<u64>) -> View {
        View { number: 1, label: "users".into(), done, total, in_bytes: true, stored_bytes: None }
    }

    #[test]
    fn amounts_tell_rate_and_time_left() {
        let restore = view(2_000_000_000, Some(3_000_000_000));
        assert_eq!(amounts(&restore, None), "2.0 GB of 3.0 GB");
        assert_eq!(amounts(&restore, Some(1e8)), "2.0 GB of 3.0 GB, 100 MB/s, 10.0 s left");
        let backup = View { stored_bytes: Some(5000), ..view(2_000_000_000, None) };
        assert_eq!(amounts(&backup, Some(1e8)), "2.0 GB, 100 MB/s, 5.0 kB stored");
        let segments = View { in_bytes: false, ..view(3, Some(9)) };
        assert_eq!(amounts(&segments, Some(1.0)), "3 of 9");
    }

    #[test]
    fn speed_forgets_what_is_long_past_and_what_was_another_entry() {
        let (mut speed, start) = (Speed::default(), Instant::now());
        let after = |seconds: u64| start + Duration::from_secs(seconds);
        assert_eq!(speed.of(&view(0, None), start), None);
        assert_eq!(speed.of(&view(500, None), after(5)), Some(100.0));
        assert_eq!(speed.of(&view(500, None), after(10)), Some(0.0));
        assert_eq!(speed.of(&View { number: 2, ..view(0, None) }, after(11)), None);
    }

    #[test]
    fn templates_are_right() {
        for template in [BAR, SPINNER] {
            assert!(ProgressStyle::with_template(template).is_ok(), "{template}");
        }
    }
}
