//! Every storage keeps every promise of the trait.

use std::cell::Cell;

use dbvault_storage::{LocalStorage, MemoryStorage, Storage};
use dbvault_testkit::storage_conformance::conformance;

#[test]
fn memory_storage_conforms() {
    conformance(&|| Box::new(MemoryStorage::new()));
}

#[test]
fn local_storage_conforms() {
    let directory = tempfile::tempdir().unwrap();
    let made_count = Cell::new(0);
    conformance(&|| -> Box<dyn Storage> {
        made_count.set(made_count.get() + 1);
        Box::new(LocalStorage::create(directory.path().join(made_count.get().to_string())).unwrap())
    });
}
