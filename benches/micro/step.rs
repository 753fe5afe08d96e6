//! A step of a backup: ways to do it, taken in turn, and the processor time of each.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// What takes each result of a pass: its number and its bytes.
pub(crate) type Sink<'s> = &'s mut dyn FnMut(usize, &[u8]);

/// Does a step with everything, and gives each result away.
type Pass<'m> = Box<dyn FnMut(Sink) + 'm>;

/// Whether the result of this number is right.
type IsRight<'m> = Box<dyn Fn(usize, &[u8]) -> bool + 'm>;

/// How much a pass works on.
#[derive(Clone, Copy)]
pub(crate) enum Amount {
    Bytes(usize),
    Items(usize),
}

impl Amount {
    pub(crate) fn number(self) -> f64 {
        let (Amount::Bytes(number) | Amount::Items(number)) = self;
        number as f64
    }
}

/// One way to do a step.
pub(crate) struct Way<'m> {
    pub(crate) name: &'static str,
    pass: Pass<'m>,
    is_right: IsRight<'m>,
    /// Of the results of one pass.
    pub(crate) output_bytes: u64,
    /// Processor time of each pass.
    seconds: Vec<f64>,
}

impl<'m> Way<'m> {
    pub(crate) fn new(
        name: &'static str,
        pass: impl FnMut(Sink) + 'm,
        is_right: impl Fn(usize, &[u8]) -> bool + 'm,
    ) -> Self {
        let (pass, is_right) = (Box::new(pass), Box::new(is_right));
        Self { name, pass, is_right, output_bytes: 0, seconds: Vec::new() }
    }

    /// The median pass.
    pub(crate) fn seconds(&self) -> f64 {
        median(self.seconds.iter().copied())
    }
}

pub(crate) struct Step<'m> {
    pub(crate) name: &'static str,
    pub(crate) input: Amount,
    /// Our way first, then bare libraries.
    pub(crate) ways: Vec<Way<'m>>,
    /// Whose processor time counts.
    clock: ClockId,
}

impl<'m> Step<'m> {
    pub(crate) fn new(name: &'static str, input: Amount, ways: Vec<Way<'m>>) -> Self {
        Self { name, input, ways, clock: ClockId::ThreadCPUTime }
    }

    /// Counts the time of all threads.
    pub(crate) fn of_all_threads(self) -> Self {
        Self { clock: ClockId::ProcessCPUTime, ..self }
    }

    /// Looks at every result of every way. It is also what fills caches before the first measurement.
    pub(crate) fn verify(&mut self) -> Result<(), String> {
        for Way { name, pass, is_right, output_bytes, .. } in &mut self.ways {
            let (mut bytes, mut first_wrong) = (0, None);
            pass(&mut |number, result| {
                bytes += result.len() as u64;
                if !is_right(number, result) {
                    first_wrong.get_or_insert(number);
                }
            });
            *output_bytes = bytes;
            if let Some(number) = first_wrong {
                return Err(format!("{}, {name}: result {number} is wrong", self.name));
            }
        }
        Ok(())
    }

    /// One pass of each way; who goes first changes with the round.
    pub(crate) fn measure(&mut self, round: usize) {
        let count = self.ways.len();
        for turn in 0..count {
            let way = &mut self.ways[(turn + round) % count];
            let mut bytes = 0;
            let began = now(self.clock);
            (way.pass)(&mut |_, result| bytes += result.len() as u64);
            way.seconds.push((now(self.clock) - began).as_secs_f64());
            assert_eq!(bytes, way.output_bytes, "{}, {}: as many bytes in each pass", self.name, way.name);
        }
    }
}

/// Processor time used so far.
pub(crate) fn now(clock: ClockId) -> Duration {
    let time = clock_gettime(clock);
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec as u32)
}

pub(crate) fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut sorted: Vec<f64> = values.collect();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    if sorted.len() % 2 == 1 { sorted[middle] } else { f64::midpoint(sorted[middle - 1], sorted[middle]) }
}
