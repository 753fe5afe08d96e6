//! A repository: opening it, and reading and making its sealed objects.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use dbvault_format::config::{self, RepoParams};
use dbvault_format::header::ObjectKind;
use dbvault_format::id::{RepoId, SessionId, SlotId};
use dbvault_format::key_slot::{KdfWork, Secret, SlotKind};
use dbvault_format::keys::{Keys, MasterKey};
use dbvault_format::manifest::Fence;
use dbvault_format::object::{Place, open_object, seal_object, to_cbor};
use dbvault_storage::{ErrorKind, Key, Storage};

use crate::layout::Numbered;
use crate::{Error, Result, entropy, key_slots, layout, reserve, scripted};

/// Who uses a repository, and from where.
#[derive(Clone, Debug)]
pub struct Client {
    /// Name of this host.
    pub host: String,
    /// Name of the user.
    pub user: String,
    /// Where local caches go: each repository has a directory of its own in it. All in it can be made anew.
    pub cache_dir: PathBuf,
    /// Long operations end with [`Error::Interrupted`] soon after this becomes true.
    pub interrupt: Arc<AtomicBool>,
}

impl Client {
    /// Errors: [`Error::Interrupted`] where the user wants to stop.
    pub(crate) fn check_interrupt(&self) -> Result<()> {
        if self.interrupt.load(Ordering::Relaxed) { Err(Error::Interrupted) } else { Ok(()) }
    }
}

/// What can be known of a repository without a secret.
#[derive(Clone, Debug)]
pub struct RepoProbe {
    /// Its id, not yet authenticated.
    pub id: RepoId,
    /// Which secrets its key slots want.
    pub slot_kinds: Vec<SlotKind>,
}

/// An open repository. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Repository {
    pub(crate) storage: Arc<dyn Storage>,
    pub(crate) client: Client,
    pub(crate) id: RepoId,
    pub(crate) params: RepoParams,
    pub(crate) master: MasterKey,
    pub(crate) keys: Keys,
    /// The slot it was opened with.
    pub(crate) slot: SlotId,
}

impl Repository {
    /// Errors: [`Error::Interrupted`] where the user wants to stop.
    pub fn check_interrupt(&self) -> Result<()> {
        self.client.check_interrupt()
    }

    /// Makes a repository in an empty storage, with one key slot.
    ///
    /// The slot is stored before `config`, whose presence makes the repository: a crash leaves no repository,
    /// or a whole one. Slots that an `init` left when it crashed are removed last, when nobody else can make
    /// this repository any more. Errors: [`Error::RepositoryExists`]; then nothing is changed.
    pub fn init(
        storage: Arc<dyn Storage>,
        client: Client,
        params: RepoParams,
        secret: &Secret,
        label: &str,
    ) -> Result<Repository> {
        Repository::init_with(storage, client, params, &entropy::master_key()?, (secret, label))
    }

    /// The same with the data keys of this repository, so that records need not be decoded to go from one to the other:
    /// see [`Repository::shares_keys_with`]. Each has its own key slots, but whoever has opened one has the data keys of
    /// both: a slot that is removed from one does not keep its owner out of the other.
    pub fn init_like(
        &self,
        storage: Arc<dyn Storage>,
        params: RepoParams,
        secret: &Secret,
        label: &str,
    ) -> Result<Repository> {
        Repository::init_with(storage, self.client.clone(), params, &self.master, (secret, label))
    }

    fn init_with(
        storage: Arc<dyn Storage>,
        client: Client,
        mut params: RepoParams,
        master: &MasterKey,
        (secret, label): (&Secret, &str),
    ) -> Result<Repository> {
        if storage.size(&layout::config())?.is_some() {
            return Err(Error::RepositoryExists { location: storage.location() });
        }
        params.created_ms = now_ms();
        params.validate().map_err(Error::Format)?;
        let (id, master) = (entropy::repo_id()?, master.clone());
        let keys = Keys::derive(&master);
        let bytes = config::encode(&keys.config, &id, &params);
        let place = key_slots::SlotPlace { storage: &*storage, repo: &id };
        let slot = key_slots::add(&place, &master, secret, KdfWork::DEFAULT, label)?;
        storage.flush()?;
        match storage.put_new(&layout::config(), &[&bytes]) {
            Err(e) if e.kind() == ErrorKind::AlreadyExists => {
                storage.delete(&layout::key_slot(&slot))?;
                return Err(Error::RepositoryExists { location: storage.location() });
            }
            done => done?,
        }
        storage.flush()?;
        let repo = Repository { storage, client, id, params, master, keys, slot };
        if let Err(e) = repo.remove_foreign_slots() {
            // The repository is there and whole. A slot that stays opens nothing.
            tracing::warn!("key slots of an earlier init may be left: {e}");
        }
        Ok(repo)
    }

    /// Looks at a repository without a secret.
    ///
    /// Errors: [`Error::NoRepository`], [`Error::Newer`], [`Error::Damaged`] for a `config` that is unreadable.
    pub fn probe(storage: &dyn Storage) -> Result<RepoProbe> {
        let id = config::repo_id(&read_config(storage)?).map_err(|e| Error::reading("config", e))?;
        let slots = key_slots::read_all(storage)?;
        let slot_kinds =
            slots.iter().filter_map(|(_, bytes)| dbvault_format::key_slot::kind(bytes).ok()).collect();
        Ok(RepoProbe { id, slot_kinds })
    }

    /// Opens a repository with any of its key slots.
    ///
    /// Errors: those of [`Repository::probe`], and [`Error::WrongSecret`].
    pub fn open(storage: Arc<dyn Storage>, client: Client, secret: &Secret) -> Result<Repository> {
        let bytes = read_config(&*storage)?;
        let id = config::repo_id(&bytes).map_err(|e| Error::reading("config", e))?;
        let (slot, master) = key_slots::open_any(&*storage, &id, secret)?;
        Repository::with_master(storage, client, &bytes, id, master, slot)
    }

    /// Stores a new key slot for a repository whose master key is known, for one whose slots are all lost.
    ///
    /// Errors: [`Error::WrongSecret`] where `master` is not the key of this repository.
    pub fn import_key(
        storage: Arc<dyn Storage>,
        client: Client,
        master: &MasterKey,
        secret: &Secret,
        label: &str,
    ) -> Result<SlotId> {
        let bytes = read_config(&*storage)?;
        let id = config::repo_id(&bytes).map_err(|e| Error::reading("config", e))?;
        let location = storage.location();
        let repo = Repository::with_master(storage, client, &bytes, id, master.clone(), SlotId([0; 8]));
        let repo = repo.map_err(|e| match e {
            Error::Damaged { source: dbvault_format::Error::Authentication { .. }, .. } => {
                Error::WrongSecret { location }
            }
            e => e,
        })?;
        repo.add_key(secret, label)
    }

    fn with_master(
        storage: Arc<dyn Storage>,
        client: Client,
        config_bytes: &[u8],
        id: RepoId,
        master: MasterKey,
        slot: SlotId,
    ) -> Result<Repository> {
        let keys = Keys::derive(&master);
        let params = config::decode(&keys.config, config_bytes).map_err(|e| Error::reading("config", e))?;
        Ok(Repository { storage, client, id, params, master, keys, slot })
    }

    /// Whether both have the same data keys: the same bytes are then the same chunks in both.
    pub fn shares_keys_with(&self, other: &Repository) -> bool {
        self.master.0 == other.master.0
    }

    /// Random id of this repository.
    pub fn id(&self) -> &RepoId {
        &self.id
    }

    /// Parameters it was made with.
    pub fn params(&self) -> &RepoParams {
        &self.params
    }

    /// Where it is.
    pub fn location(&self) -> String {
        self.storage.location()
    }

    /// Directory of the local caches of this repository.
    pub(crate) fn cache_dir(&self) -> PathBuf {
        self.client.cache_dir.join(self.id.to_string())
    }

    /// Stores a sealed object under a new name.
    pub(crate) fn put_sealed(&self, key: &Key, kind: ObjectKind, body: &[u8]) -> Result<()> {
        let place = Place { repo: &self.id, name: key.as_str() };
        let object =
            seal_object(&self.keys.object, place, kind, entropy::salt()?, body).map_err(Error::Format)?;
        // Read what was sealed before it becomes the only copy.
        let again = open_object(&self.keys.object, place, &[kind], &object).map_err(Error::Format)?;
        if again.1 != body {
            return Err(Error::Format(dbvault_format::Error::Authentication { what: kind.name() }));
        }
        match self.storage.put_new(key, &[&object]) {
            Err(e) if e.kind() == ErrorKind::NoSpace && reserve::may_use(kind) => {
                // Tried again even where there is none left: another thread may just have given it up.
                self.release_reserve()?;
                Ok(self.storage.put_new(key, &[&object])?)
            }
            done => Ok(done?),
        }
    }

    /// The same, if nobody has made an object of this name. Gives whether it was made.
    pub(crate) fn put_sealed_if_free(&self, key: &Key, kind: ObjectKind, body: &[u8]) -> Result<bool> {
        match self.put_sealed(key, kind, body) {
            Err(Error::Storage(e)) if e.kind() == ErrorKind::AlreadyExists => Ok(false),
            done => done.map(|()| true),
        }
    }

    /// Puts a fence into the slot of a session, unless it is filled: the session can't commit any more, or has.
    pub(crate) fn put_fence(&self, session: &SessionId) -> Result<()> {
        let fence = Fence { session: *session, fenced_ms: now_ms(), host: self.client.host.clone() };
        self.put_sealed_if_free(&layout::archive(session), ObjectKind::Fence, &to_cbor(&fence)).map(drop)
    }

    /// Names of the form `<folder>/<session>/<n>`: the highest number of each session, as `parse` reads them.
    pub(crate) fn last_numbers_below(
        &self,
        folder: &Key,
        parse: Numbered,
    ) -> Result<BTreeMap<SessionId, u32>> {
        let mut last = BTreeMap::<SessionId, u32>::new();
        for (session, number) in self.list_keys(folder)?.iter().filter_map(parse) {
            let known = last.entry(session).or_default();
            *known = number.max(*known);
        }
        Ok(last)
    }

    /// Reads a sealed object of one of `kinds`.
    pub(crate) fn get_sealed(&self, key: &Key, kinds: &[ObjectKind]) -> Result<(ObjectKind, Vec<u8>)> {
        let object = self.storage.get(key, None)?;
        let place = Place { repo: &self.id, name: key.as_str() };
        open_object(&self.keys.object, place, kinds, &object).map_err(|e| Error::reading(key.as_str(), e))
    }

    /// Names of all objects below `prefix`, sorted.
    pub(crate) fn list_keys(&self, prefix: &Key) -> Result<Vec<Key>> {
        let mut keys = Vec::new();
        self.storage.list(prefix, &mut |object| {
            keys.push(object.key);
            Ok(())
        })?;
        keys.sort_unstable();
        Ok(keys)
    }
}

fn read_config(storage: &dyn Storage) -> Result<Vec<u8>> {
    match storage.get(&layout::config(), None) {
        Err(e) if e.kind() == ErrorKind::NotFound => {
            Err(Error::NoRepository { location: storage.location(), occupied: true })
        }
        Err(e) => Err(e.into()),
        Ok(bytes) => Ok(bytes),
    }
}

/// Milliseconds since 1970 UTC by this machine's clock. For people and for ordering listings; nothing's
/// safety depends on it.
pub(crate) fn now_ms() -> i64 {
    if let Some(now_ms) = scripted::now_ms() {
        return now_ms;
    }
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// Milliseconds since `began`.
pub(crate) fn elapsed_ms(began: Instant) -> u64 {
    match scripted::now_ms() {
        Some(_) => 0,
        None => u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX),
    }
}
