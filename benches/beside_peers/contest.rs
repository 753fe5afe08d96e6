//! All tools of a run, who still takes part, and what was measured.

use std::path::Path;

use crate::command_lines::{ALL, OURS, UNMEASURED};
use crate::figures::{Figures, Unit};
use crate::measure::Usage;
use crate::peers::Peer;

pub(crate) struct Contest {
    peers: Vec<Peer>,
    /// What the report says of each tool: version and setup, or why it takes no part.
    described: Vec<String>,
    failures: Vec<String>,
    /// By section.
    remarks: Vec<(&'static str, String)>,
    pub(crate) figures: Figures,
    turn: usize,
}

impl Contest {
    /// Finds the tools. One that does not bring back a short stream is named, and takes no part; dbvault must.
    pub(crate) fn new(work: &Path) -> Result<Self, String> {
        let (mut peers, mut described) = (Vec::new(), Vec::new());
        for lines in &ALL {
            match Peer::find(lines, work).map(|peer| peer.probe().map(|()| peer)) {
                Some(Ok(peer)) => {
                    described.push(peer.description());
                    peers.push(peer);
                }
                Some(Err(error)) if lines.name == OURS => return Err(error),
                Some(Err(error)) => described.push(format!("{}: can't be measured: {error}", lines.name)),
                None if lines.name == OURS => return Err("no dbvault found".to_owned()),
                None => described.push(format!("{}: absent", lines.name)),
            }
        }
        for (name, program, why) in UNMEASURED {
            let word = if is_on_path(program) { format!("not measured: {why}") } else { "absent".to_owned() };
            described.push(format!("{name}: {word}"));
        }
        described.iter().for_each(|line| eprintln!("{line}"));
        let figures = Figures::new(peers.iter().map(Peer::name).collect());
        Ok(Self { peers, described, failures: Vec::new(), remarks: Vec::new(), figures, turn: 0 })
    }

    /// Those that still take part, dbvault first.
    pub(crate) fn peers(&self) -> impl Iterator<Item = &Peer> {
        self.peers.iter()
    }

    pub(crate) fn described(&self) -> &[String] {
        &self.described
    }

    pub(crate) fn failures(&self) -> &[String] {
        &self.failures
    }

    /// Adds a sentence to what the report says of a section.
    pub(crate) fn tell(&mut self, section: &'static str, remark: String) {
        self.remarks.push((section, remark));
    }

    pub(crate) fn remarks(&self, section: &str) -> impl Iterator<Item = &str> {
        self.remarks.iter().filter(move |(of, _)| *of == section).map(|(_, remark)| remark.as_str())
    }

    /// Lets each tool take a step before any takes the next one, so that a busy moment of the machine hits
    /// all. Who goes first changes each time; who fails is out.
    pub(crate) fn each(&mut self, step: impl Fn(&Peer, &mut Figures) -> Result<(), String>) {
        let mut failed = Vec::new();
        for place in 0..self.peers.len() {
            let which = (place + self.turn) % self.peers.len();
            let peer = &self.peers[which];
            if let Err(error) = step(peer, &mut self.figures) {
                eprintln!("  {}: {error}", peer.name());
                self.failures.push(format!("{}: {error}", peer.name()));
                failed.push(peer.name());
            }
        }
        self.turn += 1;
        self.peers.retain(|peer| !failed.contains(&peer.name()));
    }

    /// As [`each`](Self::each), for a step that only dbvault takes.
    pub(crate) fn each_ours(&mut self, step: impl Fn(&Peer, &mut Figures) -> Result<(), String>) {
        self.each(|peer, figures| if peer.is_ours() { step(peer, figures) } else { Ok(()) });
    }

    /// As [`each`](Self::each), for a measured backup into a new repository, which is part of what is stored.
    pub(crate) fn each_first_backup(
        &mut self,
        section: &'static str,
        title: &str,
        step: impl Fn(&Peer) -> Result<Usage, String>,
    ) {
        self.each(|peer, figures| {
            peer.start_afresh()?;
            figures.add_usage(section, title, peer.name(), step(peer)?);
            let stored = peer.bytes_stored()? as f64;
            figures.add(section, &format!("{title}: stored"), Unit::Bytes, peer.name(), stored);
            Ok(())
        });
    }

    /// As [`each`](Self::each), for a measured backup into the repository that is there.
    pub(crate) fn each_backup(
        &mut self,
        section: &'static str,
        title: &str,
        step: impl Fn(&Peer) -> Result<Usage, String>,
    ) {
        self.each(|peer, figures| {
            let before = peer.bytes_stored()?;
            figures.add_usage(section, title, peer.name(), step(peer)?);
            let growth = peer.bytes_stored()?.saturating_sub(before) as f64;
            figures.add(section, &format!("{title}: growth"), Unit::Bytes, peer.name(), growth);
            Ok(())
        });
    }

    /// As [`each`](Self::each), for anything else that is measured.
    pub(crate) fn each_measured(
        &mut self,
        section: &'static str,
        title: &str,
        step: impl Fn(&Peer) -> Result<Usage, String>,
    ) {
        self.each(|peer, figures| {
            figures.add_usage(section, title, peer.name(), step(peer)?);
            Ok(())
        });
    }
}

fn is_on_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|directory| directory.join(program).is_file())
}
