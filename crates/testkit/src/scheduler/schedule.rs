//! Schedules: who begins, and before which calls somebody else goes on.

use std::fmt;
use std::str::FromStr;

/// Before a call, something else happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Switch {
    /// Another actor goes on, until it ends or the turn changes again.
    To {
        /// Number of the call, from 0.
        step: usize,
        /// Who goes on.
        actor: usize,
    },
    /// The actor never makes this call, nor any other: it has crashed.
    Stop {
        /// Number of the call, from 0.
        step: usize,
    },
}

impl Switch {
    /// Number of the call before which it happens.
    pub fn step(&self) -> usize {
        match self {
            Switch::To { step, .. } | Switch::Stop { step } => *step,
        }
    }
}

/// Who begins, who follows when one ends, and where the turn changes in between.
///
/// As text, which a failure prints and a replay reads: `0-2-1 17>2 44!`, where 17 and 44 are numbers of calls, `>2`
/// gives the turn to actor 2, and `!` stops whoever has it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Schedule {
    /// All actors: when one ends, the first of these that has not goes on.
    pub order: Vec<usize>,
    /// Ascending by their steps.
    pub switches: Vec<Switch>,
}

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let order: Vec<String> = self.order.iter().map(usize::to_string).collect();
        f.write_str(&order.join("-"))?;
        self.switches.iter().try_for_each(|switch| match switch {
            Switch::To { step, actor } => write!(f, " {step}>{actor}"),
            Switch::Stop { step } => write!(f, " {step}!"),
        })
    }
}

impl FromStr for Schedule {
    type Err = String;

    fn from_str(text: &str) -> Result<Schedule, String> {
        let number = |word: &str| word.parse::<usize>().map_err(|_| format!("{word} is no number in {text}"));
        let mut words = text.split_whitespace();
        let order = words.next().unwrap_or_default().split('-').map(number).collect::<Result<_, _>>()?;
        let switch = |word: &str| match (word.split_once('>'), word.strip_suffix('!')) {
            (Some((step, actor)), _) => Ok(Switch::To { step: number(step)?, actor: number(actor)? }),
            (None, Some(step)) => Ok(Switch::Stop { step: number(step)? }),
            (None, None) => Err(format!("{word} is no change of turn in {text}")),
        };
        Ok(Schedule { order, switches: words.map(switch).collect::<Result<_, _>>()? })
    }
}

/// How a random plan goes about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chance {
    /// What all chance follows from.
    pub seed: u64,
    /// Before one in so many calls the turn changes.
    pub switch_one_in: u64,
    /// Before one in so many calls the actor is stopped; 0: never.
    pub stop_one_in: u64,
}

/// How the turn changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Plan {
    /// As it is written.
    Fixed(Schedule),
    /// By chance.
    Random {
        /// As in [`Schedule`].
        order: Vec<usize>,
        /// When.
        chance: Chance,
    },
}

impl Plan {
    pub(crate) fn order(&self) -> &[usize] {
        match self {
            Plan::Fixed(schedule) => &schedule.order,
            Plan::Random { order, .. } => order,
        }
    }

    /// What happens before call number `step`, if the actors `others` could go on.
    pub(crate) fn change_at(&self, step: usize, others: &[usize]) -> Option<Switch> {
        match self {
            Plan::Fixed(schedule) => schedule.switches.iter().find(|switch| switch.step() == step).copied(),
            Plan::Random { chance, .. } => chance.change_at(step, others),
        }
    }
}

impl Chance {
    fn change_at(&self, step: usize, others: &[usize]) -> Option<Switch> {
        let number = |what: u64| mix(mix(self.seed ^ mix(what)) ^ step as u64);
        if self.stop_one_in > 0 && number(1) % self.stop_one_in == 0 {
            return Some(Switch::Stop { step });
        }
        if others.is_empty() || number(2) % self.switch_one_in != 0 {
            return None;
        }
        Some(Switch::To { step, actor: others[(number(3) % others.len() as u64) as usize] })
    }
}

/// Spreads every bit of `value` over the whole result (the finisher of the SplitMix64 generator).
fn mix(value: u64) -> u64 {
    let mut mixed = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}
