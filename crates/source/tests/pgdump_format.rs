//! The structural check of `pg_dump`'s custom format, against real dumps.

mod common;

use std::sync::OnceLock;
use std::time::Instant;

use dbvault_dump::{CustomFormatChecker, DumpSummary};
use dbvault_source::PostgresSource;

fn check(bytes: &[u8], piece_bytes: usize) -> Result<DumpSummary, String> {
    let mut checker = CustomFormatChecker::default();
    for piece in bytes.chunks(piece_bytes) {
        checker.feed(piece)?;
    }
    checker.finish()
}

fn real_dump() -> &'static [u8] {
    static DUMP: OnceLock<Vec<u8>> = OnceLock::new();
    DUMP.get_or_init(|| {
        let server = common::shared_server();
        server.create_database("checked").expect("works");
        common::fill(server, "checked");
        common::read_all(PostgresSource::new(common::source_options(server, "checked")).expect("works"))
            .expect("works")
            .1
    })
}

#[test]
fn a_whole_dump_is_whole_however_it_is_cut_into_pieces_and_no_part_of_it_is() {
    let dump = real_dump();
    let summary = check(dump, usize::MAX).unwrap();
    assert!(summary.checked && summary.entries > 20, "{summary:?}");
    // 5 tables (2 of them partitions), a table without rows among them, and the large objects.
    assert_eq!(summary.blocks, 5, "{summary:?}");
    for piece_bytes in [1, 2, 3, 5, 7, 64, 4_096, 65_537] {
        assert_eq!(check(dump, piece_bytes).as_ref(), Ok(&summary), "{piece_bytes}");
    }

    // Every cut of the first and the last 3,000 bytes, and 1,000 in between.
    let step = dump.len() / 1_000;
    let cuts = (0..3_000).chain((0..1_000).map(|n| n * step)).chain(dump.len() - 3_000..dump.len());
    for cut in cuts {
        assert!(check(&dump[..cut], usize::MAX).is_err(), "cut at {cut} of {}", dump.len());
    }
    let longer = [dump, b"\0"].concat();
    assert!(check(&longer, usize::MAX).is_err());
}

#[test]
fn what_is_no_dump_is_refused_and_no_input_makes_it_panic() {
    assert!(check(b"", 1).is_err());
    assert!(check(b"-- PostgreSQL database dump\n", 8).is_err());
    let dump = real_dump();
    let mut state = 1_u64;
    for _ in 0..3_000 {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let mut damaged = dump[..dump.len().min(60_000)].to_vec();
        let at = (state >> 33) as usize % damaged.len();
        damaged[at] ^= (state >> 20) as u8 | 1;
        let _ = check(&damaged, 4_096);
    }
}

#[test]
fn a_newer_version_is_passed_on_and_told_as_unchecked() {
    let mut newer = b"PGDMP\x01\x11\x00\x04\x08\x01".to_vec();
    newer.extend_from_slice(&[9; 1_000]);
    let summary = check(&newer, 10).unwrap();
    assert!(!summary.checked && summary.version == (1, 17));
}

/// An archive in the words of the format, for versions that no server here writes.
struct Writer(Vec<u8>);

impl Writer {
    fn int(&mut self, value: i32) -> &mut Self {
        self.0.push(u8::from(value < 0));
        self.0.extend_from_slice(&value.unsigned_abs().to_le_bytes());
        self
    }

    fn text(&mut self, text: &str) -> &mut Self {
        self.int(text.len() as i32);
        self.0.extend_from_slice(text.as_bytes());
        self
    }

    fn archive(minor: u8) -> Vec<u8> {
        let mut to = Writer(b"PGDMP".to_vec());
        to.0.extend_from_slice(&[1, minor, 0, 4, 8, 1]);
        if minor >= 15 {
            to.0.push(0);
        } else {
            to.int(0);
        }
        for _ in 0..7 {
            to.int(1);
        }
        to.text("db").text("17.0").text("17.0").int(2);
        for (id, kind, data) in [(7, "DATABASE", false), (8, "TABLE DATA", true)] {
            to.int(id).int(i32::from(data)).text("1259").text("16384").text("t").text(kind).int(3);
            to.text("CREATE DATABASE db;").text("").text("").int(-1).int(-1);
            if minor >= 14 {
                to.int(-1);
            }
            if minor >= 16 {
                to.int(114);
            }
            to.text("bob").text("false").text("3").int(-1);
            to.0.push(if data { 1 } else { 3 });
            to.0.extend_from_slice(&[0; 8]);
        }
        to.0.push(1);
        to.int(8).text("some").text("rows").int(0);
        to.0
    }
}

#[test]
fn every_version_from_1_12_to_1_16_is_followed() {
    for minor in 12..=16 {
        let archive = Writer::archive(minor);
        let summary = check(&archive, 3).unwrap();
        assert_eq!((summary.entries, summary.blocks, summary.checked), (2, 1, true));
        for cut in 0..archive.len() {
            assert!(check(&archive[..cut], 64).is_err(), "1.{minor} cut at {cut}");
        }
        let mut checker = CustomFormatChecker::default();
        checker.feed(&archive).unwrap();
        let [entry] = checker.database_entries() else { panic!("{:?}", checker.database_entries()) };
        assert_eq!(entry.sql.as_deref(), Some("CREATE DATABASE db;"));
        assert_eq!(entry.owner.as_deref(), Some("bob"));
    }
}

#[test]
fn the_check_is_no_brake() {
    let mut archive = Writer(Writer::archive(14));
    archive.0.truncate(archive.0.len() - 5);
    // Rows of 100 bytes, a piece each.
    let row = "x".repeat(100);
    for _ in 0..1_000_000 {
        archive.text(&row);
    }
    archive.int(0);
    let start = Instant::now();
    check(&archive.0, 1 << 20).unwrap();
    let rate = archive.0.len() as f64 / start.elapsed().as_secs_f64() / 1e9;
    println!("{rate:.1} GB/s");
    assert!(rate > 0.5, "{rate:.2} GB/s");
}
