//! Sessions that must end before condemned packs may go (G3, G4), and the end of those that never will.
//!
//! What a collector has seen is written down in the local cache, so that a prune by cron sees the silence of a
//! session from one run to the next, and does not wait for sessions that began after it looked first. Lost, it only
//! waits longer. A wrong clock fences too early or too late: then a backup fails, or waits; nothing is lost.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use dbvault_format::header::ObjectKind;
use dbvault_format::id::SessionId;
use dbvault_format::object::{from_cbor, to_cbor};
use dbvault_format::session::SessionRecord;
use dbvault_storage::ErrorKind;
use minicbor::{Decode, Encode};

use super::CollectOptions;
use crate::liveness::{self, Life};
use crate::repository::now_ms;
use crate::{Error, Repository, Result, layout};

/// Time between two looks at sessions that run.
const LOOK_INTERVAL: Duration = Duration::from_secs(2);

/// A backup that runs, or seems to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunningBackup {
    /// Its session.
    pub id: SessionId,
    /// What it says of itself, if that can be read.
    pub record: Option<SessionRecord>,
    /// How long no new sign of life of it was seen, milliseconds.
    pub silent_ms: i64,
}

/// What collectors of this machine have seen of the sessions that an epoch must wait for.
#[derive(Clone, Debug, Default, Encode, Decode)]
#[cbor(map)]
struct Watch {
    /// The object of the condemned list, sealed as it is, hashed. Neither its number nor what it says will do: a later
    /// epoch may condemn the same packs again, and in a repository that was copied back a number may mean another list.
    #[n(0)]
    #[cbor(with = "minicbor::bytes")]
    condemned: Vec<u8>,
    /// Sessions that were registered when it was looked first.
    #[n(1)]
    sessions: Vec<Watched>,
}

#[derive(Clone, Debug, Encode, Decode)]
#[cbor(map)]
struct Watched {
    #[n(0)]
    id: SessionId,
    /// Number of its last heartbeat.
    #[n(1)]
    heartbeat: u32,
    /// When that heartbeat was seen first, and last; milliseconds since 1970 UTC by this machine's clock.
    #[n(2)]
    first_seen_ms: i64,
    #[n(3)]
    last_seen_ms: i64,
}

impl Watched {
    fn see(&mut self, heartbeat: u32, now_ms: i64) {
        // A clock that was set back tells nothing of how long it was silent.
        if heartbeat > self.heartbeat || now_ms < self.last_seen_ms {
            (self.heartbeat, self.first_seen_ms) = (heartbeat, now_ms);
        }
        self.last_seen_ms = now_ms;
    }

    fn silent_ms(&self) -> i64 {
        self.last_seen_ms.saturating_sub(self.first_seen_ms)
    }
}

impl Repository {
    /// Waits as long as `options` allow for the sessions that were registered when the object `condemned` was durable,
    /// and fences those that are dead. Gives those that are still running.
    pub(super) fn wait_for_sessions(
        &self,
        condemned: &[u8],
        options: &CollectOptions,
    ) -> Result<Vec<RunningBackup>> {
        self.wait_for(self.watch(condemned)?, options, |watch| self.write_down(watch))
    }

    /// The same for all sessions that are registered now, before anything is condemned.
    pub(super) fn wait_for_backups(&self, options: &CollectOptions) -> Result<Vec<RunningBackup>> {
        self.wait_for(self.first_look(Vec::new())?, options, |_| {})
    }

    fn wait_for(
        &self,
        mut watch: Watch,
        options: &CollectOptions,
        looked: impl Fn(&Watch),
    ) -> Result<Vec<RunningBackup>> {
        let until = Instant::now() + options.wait;
        loop {
            self.look_at(&mut watch, options)?;
            looked(&watch);
            let left = until.saturating_duration_since(Instant::now());
            if watch.sessions.is_empty() || left.is_zero() {
                return watch.sessions.iter().map(|watched| self.running(watched)).collect();
            }
            self.pause(left.min(LOOK_INTERVAL))?;
        }
    }

    /// Sessions to wait for: those that were seen first of this condemned list, or all that are registered.
    fn watch(&self, condemned: &[u8]) -> Result<Watch> {
        let condemned = blake3::hash(condemned).as_bytes().to_vec();
        let known = fs::read(self.watch_path()).ok();
        let known = known.and_then(|bytes| from_cbor::<Watch>("watch", &bytes).ok());
        if let Some(watch) = known.filter(|watch| watch.condemned == condemned) {
            return Ok(watch);
        }
        self.first_look(condemned)
    }

    /// All sessions that are registered.
    fn first_look(&self, condemned: Vec<u8>) -> Result<Watch> {
        let now_ms = now_ms();
        let sessions = self.heartbeats()?.into_iter().map(|(id, heartbeat)| Watched {
            id,
            heartbeat,
            first_seen_ms: now_ms,
            last_seen_ms: now_ms,
        });
        Ok(Watch { condemned, sessions: sessions.collect() })
    }

    /// Drops those from `watch` that have ended, by their own hand or by a fence.
    fn look_at(&self, watch: &mut Watch, options: &CollectOptions) -> Result<()> {
        let silence_ms = i64::try_from(options.silence.as_millis()).unwrap_or(i64::MAX);
        let heartbeats = self.heartbeats()?;
        let mut running = Vec::new();
        for mut watched in std::mem::take(&mut watch.sessions) {
            // Who is not registered any more has filled its slot, or never will.
            let Some(heartbeat) = heartbeats.get(&watched.id) else { continue };
            if self.storage.size(&layout::archive(&watched.id))?.is_some() {
                continue;
            }
            watched.see(*heartbeat, now_ms());
            let life = liveness::life_of(self, &watched.id);
            if life == Life::Ended || life == Life::Unknown && watched.silent_ms() >= silence_ms {
                self.fence(&watched.id)?;
            } else {
                running.push(watched);
            }
        }
        watch.sessions = running;
        Ok(())
    }

    /// Sees to it that a session can't commit any more, unless it just has.
    fn fence(&self, id: &SessionId) -> Result<()> {
        tracing::info!("backup {id} is fenced: it shows no sign of life");
        self.put_fence(id)?;
        Ok(self.storage.flush()?)
    }

    /// The number of the last heartbeat of each session that is registered.
    fn heartbeats(&self) -> Result<BTreeMap<SessionId, u32>> {
        self.last_numbers_below(&layout::sessions(), layout::parse_heartbeat)
    }

    fn running(&self, watched: &Watched) -> Result<RunningBackup> {
        let key = layout::session(&watched.id, 0);
        let record = match self.get_sealed(&key, &[ObjectKind::Session]) {
            Ok((_, body)) => from_cbor("session", &body).ok(),
            Err(Error::Damaged { .. }) => None,
            Err(Error::Storage(e)) if e.kind() == ErrorKind::NotFound => None,
            Err(e) => return Err(e),
        };
        Ok(RunningBackup { id: watched.id, record, silent_ms: watched.silent_ms() })
    }

    fn pause(&self, time: Duration) -> Result<()> {
        let until = Instant::now() + time;
        while Instant::now() < until {
            self.client.check_interrupt()?;
            std::thread::sleep(Duration::from_millis(50).min(time));
        }
        Ok(())
    }

    fn write_down(&self, watch: &Watch) {
        let path = self.watch_path();
        let new = path.with_extension(format!("{}.new", std::process::id()));
        let written = fs::write(&new, to_cbor(watch)).and_then(|()| fs::rename(&new, &path));
        if let Err(e) = written {
            tracing::debug!("{}: {e}", path.display());
        }
    }

    fn watch_path(&self) -> PathBuf {
        self.cache_dir().join("collector")
    }
}
