//! Names of users and groups, each looked up once.

use std::collections::HashMap;
use std::hash::Hash;

use nix::unistd::{Gid, Group, Uid, User};
use parking_lot::Mutex;

/// Numbers and names that are remembered at most of each kind; then all are forgotten.
const REMEMBERED_MAX: usize = 1 << 16;

/// Names of users and groups as the system's name service knows them, each looked up once.
#[derive(Debug, Default)]
pub(crate) struct Names {
    users: Mutex<HashMap<u32, Option<String>>>,
    groups: Mutex<HashMap<u32, Option<String>>>,
    uids: Mutex<HashMap<String, Option<u32>>>,
    gids: Mutex<HashMap<String, Option<u32>>>,
}

impl Names {
    pub(crate) fn user(&self, uid: u32) -> Option<String> {
        remembered(&self.users, &uid, || Some(User::from_uid(Uid::from_raw(uid)).ok()??.name))
    }

    pub(crate) fn group(&self, gid: u32) -> Option<String> {
        remembered(&self.groups, &gid, || Some(Group::from_gid(Gid::from_raw(gid)).ok()??.name))
    }

    pub(crate) fn uid(&self, user: &str) -> Option<u32> {
        remembered(&self.uids, user, || Some(User::from_name(user).ok()??.uid.as_raw()))
    }

    pub(crate) fn gid(&self, group: &str) -> Option<u32> {
        remembered(&self.gids, group, || Some(Group::from_name(group).ok()??.gid.as_raw()))
    }
}

fn remembered<K, Q, V>(cache: &Mutex<HashMap<K, V>>, key: &Q, look_up: impl FnOnce() -> V) -> V
where
    K: Eq + Hash + std::borrow::Borrow<Q>,
    Q: Eq + Hash + ToOwned<Owned = K> + ?Sized,
    V: Clone,
{
    let mut cache = cache.lock();
    if let Some(value) = cache.get(key) {
        return value.clone();
    }
    if cache.len() >= REMEMBERED_MAX {
        cache.clear();
    }
    let value = look_up();
    cache.insert(key.to_owned(), value.clone());
    value
}
