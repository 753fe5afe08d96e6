//! A storage whose n-th call fails, once or from then on.
//!
//! A test runs its work once without a fault, asks how many calls it made, and then runs it again with
//! a fault at each of them.

use std::io;
use std::ops::Range;
use std::sync::Arc;

use dbvault_storage::{Error, Key, ObjectMeta, Result, Storage};
use parking_lot::Mutex;
use rustix::io::Errno;

/// The kinds of calls that can fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallKind {
    /// [`Storage::put_new`].
    Put,
    /// [`Storage::get`].
    Get,
    /// [`Storage::size`].
    Size,
    /// [`Storage::list`].
    List,
    /// [`Storage::delete`].
    Delete,
    /// [`Storage::flush`].
    Flush,
}

impl CallKind {
    /// All kinds, for tests that go through them.
    pub const ALL: [CallKind; 6] =
        [CallKind::Put, CallKind::Get, CallKind::Size, CallKind::List, CallKind::Delete, CallKind::Flush];
}

/// What the system is made to say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultError {
    /// ENOSPC: the disk is full.
    NoSpace,
    /// EDQUOT: the owner's quota is used up.
    QuotaExceeded,
    /// EIO: the disk failed.
    InputOutput,
    /// EACCES: not allowed.
    PermissionDenied,
    /// EROFS: the file system is read-only.
    ReadOnly,
    /// EMFILE: the process has too many open files.
    TooManyOpenFiles,
    /// EINTR: a signal came.
    Interrupted,
    /// ESTALE: the server forgot the file.
    Stale,
    /// The system takes no more bytes, and says nothing of why.
    ShortWrite,
}

impl FaultError {
    /// All errors, for tests that go through them.
    pub const ALL: [FaultError; 9] = [
        FaultError::NoSpace,
        FaultError::QuotaExceeded,
        FaultError::InputOutput,
        FaultError::PermissionDenied,
        FaultError::ReadOnly,
        FaultError::TooManyOpenFiles,
        FaultError::Interrupted,
        FaultError::Stale,
        FaultError::ShortWrite,
    ];

    fn error(self) -> io::Error {
        let errno = match self {
            FaultError::NoSpace => Errno::NOSPC,
            FaultError::QuotaExceeded => Errno::DQUOT,
            FaultError::InputOutput => Errno::IO,
            FaultError::PermissionDenied => Errno::ACCESS,
            FaultError::ReadOnly => Errno::ROFS,
            FaultError::TooManyOpenFiles => Errno::MFILE,
            FaultError::Interrupted => Errno::INTR,
            FaultError::Stale => Errno::STALE,
            FaultError::ShortWrite => return io::ErrorKind::WriteZero.into(),
        };
        errno.into()
    }
}

/// Whether the failing call has its effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultMoment {
    /// The call fails without effect.
    Before,
    /// The call has its effect, and then its reply is lost. An error of its own is passed on as it is.
    After,
}

/// How many calls fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultSpan {
    /// The chosen call alone.
    Once,
    /// The chosen call and all later ones of the same choice.
    Forever,
}

/// Which calls fail, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Only calls of this kind are counted and fail; `None` is calls of every kind.
    pub call: Option<CallKind>,
    /// Which of the counted calls fails, beginning with 1. None does at 0.
    pub nth: u64,
    /// What it fails with.
    pub error: FaultError,
    /// One call or all from it on.
    pub span: FaultSpan,
    /// With or without effect.
    pub moment: FaultMoment,
}

/// Passes calls on until the armed fault says otherwise. A clone shares everything.
#[derive(Clone, Debug)]
pub struct FaultyStorage {
    inner: Arc<dyn Storage>,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    fault: Option<Fault>,
    /// Calls since the fault was last armed or disarmed, by the place of their kind in `CallKind::ALL`.
    calls_count: [u64; CallKind::ALL.len()],
    injected_count: u64,
}

impl State {
    fn calls_count(&self, kind: Option<CallKind>) -> u64 {
        match kind {
            Some(kind) => self.calls_count[kind as usize],
            None => self.calls_count.iter().sum(),
        }
    }
}

impl FaultyStorage {
    /// A storage that passes all calls on to `inner`, until [`FaultyStorage::arm`].
    pub fn new(inner: Arc<dyn Storage>) -> FaultyStorage {
        FaultyStorage { inner, state: Arc::default() }
    }

    /// Sets the fault in place of an earlier one, and counts calls from here on.
    pub fn arm(&self, fault: Fault) {
        *self.state.lock() = State { fault: Some(fault), ..State::default() };
    }

    /// Lets all calls through again, and counts calls from here on.
    pub fn disarm(&self) {
        *self.state.lock() = State::default();
    }

    /// Calls since the fault was last armed or disarmed: of one kind, or of every kind for `None`.
    pub fn calls_count(&self, kind: Option<CallKind>) -> u64 {
        self.state.lock().calls_count(kind)
    }

    /// Calls made to fail since the fault was armed. At 0 the fault was never reached.
    pub fn injected_count(&self) -> u64 {
        self.state.lock().injected_count
    }

    /// Counts a call; gives its fault, if it is to fail.
    fn count(&self, kind: CallKind) -> Option<Fault> {
        let mut state = self.state.lock();
        state.calls_count[kind as usize] += 1;
        let fault = state.fault.filter(|fault| fault.nth > 0)?;
        if fault.call.is_some_and(|chosen| chosen != kind) {
            return None;
        }
        let count = state.calls_count(fault.call);
        let fails = match fault.span {
            FaultSpan::Once => count == fault.nth,
            FaultSpan::Forever => count >= fault.nth,
        };
        state.injected_count += u64::from(fails);
        fails.then_some(fault)
    }

    fn call<T>(&self, kind: CallKind, subject: &str, call: impl FnOnce() -> Result<T>) -> Result<T> {
        let Some(fault) = self.count(kind) else { return call() };
        if fault.moment == FaultMoment::After {
            call()?;
        }
        Err(Error::io(subject, fault.error.error()))
    }
}

impl Storage for FaultyStorage {
    fn location(&self) -> String {
        self.inner.location()
    }

    fn put_new(&self, key: &Key, body: &[&[u8]]) -> Result<()> {
        self.call(CallKind::Put, key.as_str(), || self.inner.put_new(key, body))
    }

    fn get(&self, key: &Key, range: Option<Range<u64>>) -> Result<Vec<u8>> {
        self.call(CallKind::Get, key.as_str(), || self.inner.get(key, range))
    }

    fn size(&self, key: &Key) -> Result<Option<u64>> {
        self.call(CallKind::Size, key.as_str(), || self.inner.size(key))
    }

    fn list(&self, prefix: &Key, each: &mut dyn FnMut(ObjectMeta) -> Result<()>) -> Result<()> {
        self.call(CallKind::List, prefix.as_str(), || self.inner.list(prefix, each))
    }

    fn delete(&self, key: &Key) -> Result<()> {
        self.call(CallKind::Delete, key.as_str(), || self.inner.delete(key))
    }

    fn flush(&self) -> Result<()> {
        self.call(CallKind::Flush, &self.inner.location(), || self.inner.flush())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage_conformance::conformance;
    use dbvault_storage::{ErrorKind, MemoryStorage};

    fn key(name: &str) -> Key {
        Key::new(name).unwrap()
    }

    fn fault(call: Option<CallKind>, nth: u64) -> Fault {
        let (span, moment) = (FaultSpan::Once, FaultMoment::Before);
        Fault { call, nth, error: FaultError::NoSpace, span, moment }
    }

    #[test]
    fn without_a_fault_nothing_changes() {
        conformance(&|| Box::new(FaultyStorage::new(Arc::new(MemoryStorage::new()))));
    }

    #[test]
    fn each_kind_of_call_fails_at_its_turn_and_only_then() {
        let calls = |storage: &FaultyStorage| -> Vec<bool> {
            let key = key("a/b");
            let round = || {
                [
                    storage.put_new(&key, &[b"x"]).is_err(),
                    storage.size(&key).is_err(),
                    storage.get(&key, None).is_err(),
                    storage.list(&self::key("a"), &mut |_| Ok(())).is_err(),
                    storage.flush().is_err(),
                    storage.delete(&key).is_err(),
                ]
            };
            [round(), round()].concat()
        };
        let order =
            [CallKind::Put, CallKind::Size, CallKind::Get, CallKind::List, CallKind::Flush, CallKind::Delete];
        for (place, kind) in order.into_iter().enumerate() {
            let storage = FaultyStorage::new(Arc::new(MemoryStorage::new()));
            storage.arm(fault(Some(kind), 2));
            let failed = calls(&storage);
            // An object that could not be put cannot be read either.
            let first_failed = failed.iter().position(|failed| *failed);
            assert_eq!(first_failed, Some(order.len() + place), "{kind:?}");
            assert_eq!((storage.injected_count(), storage.calls_count(Some(kind))), (1, 2));

            let storage = FaultyStorage::new(Arc::new(MemoryStorage::new()));
            storage.arm(fault(None, 1 + place as u64));
            assert_eq!(calls(&storage).iter().position(|failed| *failed), Some(place), "{kind:?}");
            assert_eq!((storage.injected_count(), storage.calls_count(None)), (1, 12));
        }
    }

    #[test]
    fn a_put_that_fails_after_it_happened_leaves_the_object() {
        for (moment, expected) in [(FaultMoment::Before, None), (FaultMoment::After, Some(1))] {
            let storage = FaultyStorage::new(Arc::new(MemoryStorage::new()));
            storage.arm(Fault { moment, ..fault(Some(CallKind::Put), 1) });
            let error = storage.put_new(&key("a"), &[b"x"]).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::NoSpace);
            assert_eq!(storage.size(&key("a")).unwrap(), expected);
        }
    }

    #[test]
    fn a_lasting_fault_lasts_until_disarmed() {
        let storage = FaultyStorage::new(Arc::new(MemoryStorage::new()));
        storage.arm(Fault { span: FaultSpan::Forever, ..fault(None, 2) });
        storage.flush().unwrap();
        for _ in 0..5 {
            storage.flush().unwrap_err();
        }
        storage.size(&key("a")).unwrap_err();
        assert_eq!(storage.injected_count(), 6);
        storage.disarm();
        storage.flush().unwrap();
    }

    #[test]
    fn errors_have_the_kinds_that_a_real_storage_gives() {
        let storage = FaultyStorage::new(Arc::new(MemoryStorage::new()));
        for error in FaultError::ALL {
            let kind = match error {
                FaultError::NoSpace | FaultError::QuotaExceeded => ErrorKind::NoSpace,
                FaultError::PermissionDenied | FaultError::ReadOnly => ErrorKind::PermissionDenied,
                _ => ErrorKind::Io,
            };
            storage.arm(Fault { error, ..fault(None, 1) });
            assert_eq!(storage.flush().unwrap_err().kind(), kind, "{error:?}");
        }
    }

    #[test]
    fn kinds_are_counted_in_their_own_places() {
        for (place, kind) in CallKind::ALL.into_iter().enumerate() {
            assert_eq!(kind as usize, place);
        }
    }
}
