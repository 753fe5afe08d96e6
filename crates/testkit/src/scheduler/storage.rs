//! The storage of an actor: it asks for the turn before each call.

use std::ops::Range;
use std::sync::Arc;

use dbvault_storage::{Error, ErrorKind, Key, ObjectMeta, Result, Storage};

use super::{Stopped, Turn};

/// What is asked of a storage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CallKind {
    /// [`Storage::put_new`].
    Put,
    /// [`Storage::get`] and [`Storage::get_into`].
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

/// What lists show of changes that are made while they run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Lists {
    /// A list is of one moment.
    #[default]
    AtOnce,
    /// Nothing: what is made is missing, what is deleted is still listed.
    Late,
    /// What concerns the second half of the names.
    Torn,
}

/// Which calls of others no order can make a difference to: they are made without asking for the turn. A list is
/// made so where it finds nothing.
pub type Alone = fn(CallKind, &Key) -> bool;

/// Passes calls on when its actor has the turn. Every call of an actor that was stopped fails, and does nothing.
#[derive(Clone, Debug)]
pub struct ScheduledStorage {
    inner: Arc<dyn Storage>,
    turn: Turn,
    lists: Lists,
    alone: Alone,
}

impl Turn {
    /// A storage over `inner` for the actor of this turn.
    pub fn storage(&self, inner: Arc<dyn Storage>, lists: Lists, alone: Alone) -> ScheduledStorage {
        ScheduledStorage { inner, turn: self.clone(), lists, alone }
    }
}

impl ScheduledStorage {
    fn ask(&self, kind: CallKind, key: &Key) -> Result<()> {
        if (self.alone)(kind, key) { self.check_alive(key) } else { self.take(&format!("{kind:?}"), key) }
    }

    fn take(&self, what: &str, key: &Key) -> Result<()> {
        self.turn.take(|| format!("{what} {key}")).map_err(|Stopped| dead(key))
    }

    fn check_alive(&self, key: &Key) -> Result<()> {
        let stopped = self.turn.turns.state.lock().stopped.contains(&self.turn.actor);
        if stopped { Err(dead(key)) } else { Ok(()) }
    }

    fn names(&self, prefix: &Key) -> Result<Vec<ObjectMeta>> {
        let mut found = Vec::new();
        self.inner.list(prefix, &mut |object| {
            found.push(object);
            Ok(())
        })?;
        found.sort_by(|a, b| a.key.cmp(&b.key));
        Ok(found)
    }
}

fn dead(key: &Key) -> Error {
    Error::io(key.as_str(), std::io::Error::other("this actor was stopped"))
}

impl Storage for ScheduledStorage {
    fn location(&self) -> String {
        self.inner.location()
    }

    fn put_new(&self, key: &Key, body: &[&[u8]]) -> Result<()> {
        self.ask(CallKind::Put, key)?;
        self.inner.put_new(key, body)
    }

    fn get(&self, key: &Key, range: Option<Range<u64>>) -> Result<Vec<u8>> {
        self.ask(CallKind::Get, key)?;
        self.inner.get(key, range)
    }

    fn size(&self, key: &Key) -> Result<Option<u64>> {
        self.ask(CallKind::Size, key)?;
        self.inner.size(key)
    }

    fn list(&self, prefix: &Key, each: &mut dyn FnMut(ObjectMeta) -> Result<()>) -> Result<()> {
        self.check_alive(prefix)?;
        if (self.alone)(CallKind::List, prefix) && self.names(prefix)?.is_empty() {
            self.turn.note(format!("List {prefix}"));
            return Ok(());
        }
        self.take("List", prefix)?;
        let early = self.names(prefix)?;
        let found = match self.lists {
            Lists::AtOnce => early,
            Lists::Late | Lists::Torn => {
                self.take("List on", prefix)?;
                let late = self.names(prefix)?;
                let middle = early.get(early.len() / 2).map(|object| object.key.clone());
                let first = |object: &ObjectMeta| match (self.lists, &middle) {
                    (Lists::Torn, Some(middle)) => object.key < *middle,
                    _ => self.lists != Lists::Torn,
                };
                let mut found: Vec<ObjectMeta> = early.into_iter().filter(first).collect();
                found.extend(late.into_iter().filter(|object| !first(object)));
                found
            }
        };
        found.into_iter().try_for_each(each)
    }

    fn delete(&self, key: &Key) -> Result<()> {
        self.ask(CallKind::Delete, key)?;
        self.inner.delete(key)
    }

    fn flush(&self) -> Result<()> {
        let key = Key::new("all").map_err(|_| Error::new(ErrorKind::InvalidKey, "all"))?;
        self.ask(CallKind::Flush, &key)?;
        self.inner.flush()
    }
}
