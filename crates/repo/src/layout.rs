//! Object names: the only place that builds or reads them.

use dbvault_format::id::{PackName, SessionId, SlotId};
use dbvault_storage::Key;

/// `config`
pub(crate) fn config() -> Key {
    key("config")
}

/// `reserve`
pub(crate) fn reserve() -> Key {
    key("reserve")
}

/// `keys`, above all key slots.
pub(crate) fn key_slots() -> Key {
    key("keys")
}

/// `keys/<slot>`
pub(crate) fn key_slot(id: &SlotId) -> Key {
    key(format!("keys/{id}"))
}

/// The slot an object below [`key_slots`] is.
pub(crate) fn parse_key_slot(key: &Key) -> Option<SlotId> {
    key.as_str().strip_prefix("keys/")?.parse().ok()
}

/// Number of shards packs are spread over.
pub(crate) const PACK_SHARDS: usize = 256;

/// `packs/<xx>`, above the packs whose name begins with this byte.
pub(crate) fn pack_shard(shard: u8) -> Key {
    key(format!("packs/{shard:02x}"))
}

/// `packs/<xx>/<name>`
pub(crate) fn pack(name: &PackName) -> Key {
    key(format!("packs/{:02x}/{name}", name.0[0]))
}

/// The pack an object below [`pack_shard`] is.
pub(crate) fn parse_pack(key: &Key) -> Option<PackName> {
    key.file_name().parse().ok()
}

/// `parity`, above the parity of all packs.
pub(crate) fn parities() -> Key {
    key("parity")
}

/// `parity/<xx>/<pack>`
pub(crate) fn parity(pack: &PackName) -> Key {
    key(format!("parity/{:02x}/{pack}", pack.0[0]))
}

/// The pack whose parity an object below [`parities`] is.
pub(crate) fn parse_parity(key: &Key) -> Option<PackName> {
    parse_pack(key).filter(|pack| parity(pack) == *key)
}

/// `quarantine/<n>/<name>`: where an object is kept that was `name`, if this name is not too long.
pub(crate) fn quarantine(number: u32, name: &Key) -> Option<Key> {
    Key::new(format!("quarantine/{number:08}/{name}")).ok()
}

/// `index`, above all index segments.
pub(crate) fn index() -> Key {
    key("index")
}

/// `index/<session>/<n>`
pub(crate) fn index_segment(session: &SessionId, number: u32) -> Key {
    key(format!("index/{session}/{number:08}"))
}

/// The session an object below [`index`] belongs to.
pub(crate) fn parse_index_segment(key: &Key) -> Option<SessionId> {
    let (session, number) = key.as_str().strip_prefix("index/")?.split_once('/')?;
    number.parse::<u32>().ok()?;
    session.parse().ok()
}

/// `sessions`, above all registrations.
pub(crate) fn sessions() -> Key {
    key("sessions")
}

/// `sessions/<session>/<n>`
pub(crate) fn session(session: &SessionId, number: u32) -> Key {
    key(format!("sessions/{session}/{number:08}"))
}

/// The session an object below [`sessions`] is of.
pub(crate) fn parse_session(key: &Key) -> Option<SessionId> {
    key.as_str().strip_prefix("sessions/")?.split_once('/')?.0.parse().ok()
}

/// The session and the number of a registration or heartbeat.
pub(crate) fn parse_heartbeat(key: &Key) -> Option<(SessionId, u32)> {
    parse_numbered("sessions/", key)
}

/// `archives`, above all slots.
pub(crate) fn archives() -> Key {
    key("archives")
}

/// `archives/<session>`
pub(crate) fn archive(session: &SessionId) -> Key {
    key(format!("archives/{session}"))
}

/// The archive an object below [`archives`] is.
pub(crate) fn parse_archive(key: &Key) -> Option<SessionId> {
    key.as_str().strip_prefix("archives/")?.parse().ok()
}

/// `trash`, above all marks.
pub(crate) fn trash() -> Key {
    key("trash")
}

/// `trash/<session>/<n>`
pub(crate) fn trash_mark(archive: &SessionId, number: u32) -> Key {
    key(format!("trash/{archive}/{number:08}"))
}

/// The archive and the number of an object below [`trash`].
pub(crate) fn parse_trash_mark(key: &Key) -> Option<(SessionId, u32)> {
    parse_numbered("trash/", key)
}

/// `notes`, above all notes.
pub(crate) fn notes() -> Key {
    key("notes")
}

/// `notes/<session>/<n>`
pub(crate) fn note(archive: &SessionId, number: u32) -> Key {
    key(format!("notes/{archive}/{number:08}"))
}

/// The archive and the number of an object below [`notes`].
pub(crate) fn parse_note(key: &Key) -> Option<(SessionId, u32)> {
    parse_numbered("notes/", key)
}

/// `condemned`, above all condemned lists.
pub(crate) fn condemned() -> Key {
    key("condemned")
}

/// `condemned/<n>`
pub(crate) fn condemned_list(number: u32) -> Key {
    key(format!("condemned/{number:08}"))
}

/// `roots`, above all roots.
pub(crate) fn roots() -> Key {
    key("roots")
}

/// `roots/<n>`
pub(crate) fn root(number: u32) -> Key {
    key(format!("roots/{number:08}"))
}

/// `packs`, above all packs.
pub(crate) fn packs() -> Key {
    key("packs")
}

/// The number of an object below [`roots`] or [`condemned`].
pub(crate) fn parse_number(key: &Key) -> Option<u32> {
    key.file_name().parse().ok()
}

/// Reads names of the form `<folder>/<session>/<n>`.
pub(crate) type Numbered = fn(&Key) -> Option<(SessionId, u32)>;

fn parse_numbered(folder: &str, key: &Key) -> Option<(SessionId, u32)> {
    let (session, number) = key.as_str().strip_prefix(folder)?.split_once('/')?;
    Some((session.parse().ok()?, number.parse().ok()?))
}

fn key(name: impl Into<String>) -> Key {
    Key::new(name).expect("names built here are valid")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back() {
        let session = SessionId([0xab; 16]);
        assert_eq!(parse_archive(&archive(&session)), Some(session));
        assert_eq!(parse_index_segment(&index_segment(&session, 3)), Some(session));
        assert_eq!(parse_trash_mark(&trash_mark(&session, 7)), Some((session, 7)));
        assert_eq!(parse_note(&note(&session, 7)), Some((session, 7)));
        assert_eq!(parse_key_slot(&key_slot(&SlotId([1; 8]))), Some(SlotId([1; 8])));
        let name = PackName([0xcd; 32]);
        assert_eq!(parse_pack(&pack(&name)), Some(name));
        assert!(pack(&name).as_str().starts_with(pack_shard(0xcd).as_str()));
        assert_eq!(parse_parity(&parity(&name)), Some(name));
        assert_eq!(parse_parity(&pack(&name)), None);
        assert_eq!(quarantine(3, &config()), Some(key("quarantine/00000003/config")));
        assert_eq!(parse_number(&root(12)), Some(12));
        assert_eq!(parse_number(&condemned_list(13)), Some(13));
        assert_eq!(parse_session(&super::session(&session, 3)), Some(session));
    }
}
