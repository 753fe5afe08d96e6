//! Sessions: a backup says that it runs, and from time to time that it still does.

use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread::JoinHandle;
use std::time::Duration;

use dbvault_format::header::ObjectKind;
use dbvault_format::id::SessionId;
use dbvault_format::object::to_cbor;
use dbvault_format::session::SessionRecord;
use dbvault_storage::ErrorKind;

use crate::liveness::Liveness;
use crate::repository::now_ms;
use crate::{Repository, Result, entropy, layout};

/// Time between two heartbeats: a collector gives up on a session after 24 hours without one.
const HEARTBEAT: Duration = Duration::from_secs(15 * 60);

/// A registered session. Dropped without [`Session::end`] it stays registered, as after a crash.
#[derive(Debug)]
pub(crate) struct Session {
    id: SessionId,
    repo: Repository,
    /// Shows collectors on this machine that the process lives.
    liveness: Option<Liveness>,
    stop: Option<mpsc::Sender<()>>,
    /// Gives the number of records it has written.
    heart: Option<JoinHandle<u32>>,
}

impl Session {
    /// Registers a new session, durably, before anything else is read: a collector that condemns a pack after
    /// this waits for the session.
    pub(crate) fn register(repo: &Repository) -> Result<Session> {
        let id = entropy::session_id()?;
        let liveness = Liveness::hold(repo, &id);
        write_record(repo, &id, 0)?;
        repo.storage.flush()?;
        let (stop, stopped) = mpsc::channel();
        let (beating, owner) = (repo.clone(), id);
        let heart = std::thread::spawn(move || {
            let mut number = 1;
            while stopped.recv_timeout(HEARTBEAT) == Err(RecvTimeoutError::Timeout) {
                // A heartbeat that fails is tried again at the next one; 95 have to fail before it matters.
                match write_record(&beating, &owner, number) {
                    Ok(()) => number += 1,
                    // Written, and the answer lost: nobody else writes under this session.
                    Err(crate::Error::Storage(e)) if e.kind() == ErrorKind::AlreadyExists => number += 1,
                    Err(e) => tracing::warn!("heartbeat not written: {e}"),
                }
            }
            number
        });
        Ok(Session { id, repo: repo.clone(), liveness, stop: Some(stop), heart: Some(heart) })
    }

    /// Id of the session.
    pub(crate) fn id(&self) -> &SessionId {
        &self.id
    }

    /// Removes the registration: the session has filled its slot, or will never.
    pub(crate) fn end(mut self) -> Result<()> {
        self.stop = None;
        let count = self.heart.take().and_then(|heart| heart.join().ok()).unwrap_or(1);
        // The registration itself goes last: as long as it is there, the session is.
        for number in (0..count).rev() {
            self.repo.storage.delete(&layout::session(&self.id, number))?;
        }
        if let Some(liveness) = self.liveness.take() {
            liveness.end();
        }
        Ok(())
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(heart) = self.heart.take() {
            let _ = heart.join();
        }
    }
}

fn write_record(repo: &Repository, id: &SessionId, number: u32) -> Result<()> {
    let record = SessionRecord {
        session: *id,
        written_ms: now_ms(),
        host: repo.client.host.clone(),
        process: std::process::id(),
        program_version: env!("CARGO_PKG_VERSION").into(),
    };
    repo.put_sealed(&layout::session(id, number), ObjectKind::Session, &to_cbor(&record))
}
