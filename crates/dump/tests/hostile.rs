//! Whatever the bytes are: an error or something, never a panic, nor more memory than there are bytes.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test that can't go on has failed; proofs are printed"
)]

mod common;

use std::io;

use common::{dump, part, server};
use dbvault_dump::{Contents, Format, Part};
use proptest::prelude::*;

/// Everything there is to ask of a dump; says whether all of it could be answered.
fn look(part: Part) -> bool {
    let Ok(contents) = Contents::open(vec![part]) else { return false };
    let mut good = true;
    contents.schema_sql();
    for table in contents.tables() {
        contents.entries_of(table);
        contents.needs_of(table);
        contents.columns(table);
        good &= contents.extents(table).is_ok();
        for format in [Format::Copy, Format::Csv { header: true }, Format::Sql] {
            let rows = contents.rows(table, format);
            good &=
                rows.is_ok_and(|mut rows| io::copy(&mut rows, &mut io::sink()).is_ok()) || !table.has_rows;
        }
    }
    good
}

#[test]
fn damaged_dumps_are_errors() {
    let server = server("hostile", "");
    for format in ["-Fc", "-Fp"] {
        server.server.psql("hostile", "TRUNCATE long").unwrap();
        let whole = part(dump(&server.server, "hostile", &[format, "-Z0"]), true);
        let mut bytes = vec![0; usize::try_from(whole.bytes.len_bytes()).unwrap()];
        assert_eq!(whole.bytes.read_at(0, &mut bytes).unwrap(), bytes.len());
        assert!(look(whole.clone()));
        let with = |bytes: Vec<u8>, noted: bool| {
            let attributes = if noted { whole.attributes.clone() } else { Default::default() };
            Part { bytes: std::sync::Arc::new(bytes), attributes, ..whole.clone() }
        };
        let mut good = 0;
        for step in 0..300 {
            let cut = bytes.len() * step / 300;
            good += usize::from(look(with(bytes[..cut].to_vec(), step % 2 == 0)) && format == "-Fc");
            let mut state = step as u64 * 77 + 1;
            let mut damaged = bytes.clone();
            for _ in 0..4 {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                let at = (state >> 33) as usize % damaged.len();
                damaged[at] = (state >> 20) as u8;
            }
            look(with(damaged, step % 2 == 0));
        }
        assert_eq!(good, 0, "a dump that is cut was taken for whole");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn any_bytes_are_taken(bytes in proptest::collection::vec(any::<u8>(), 0..2_000), start in 0_usize..4) {
        let start: &[u8] = [
            &b"PGDMP\x01\x0e\x00\x04\x08\x01\x00\x00\x00\x00\x00"[..],
            b"--\n-- PostgreSQL database dump\n--\n\n--\n-- Data for Name: a; Type: TABLE DATA\n--\nCOPY a.b (c) FROM stdin;\n",
            b"SQLite format 3\0\x02\x00\x01\x01\x00",
            b"",
        ][start];
        look(part(Vec::new(), false).with([start, &bytes].concat()));
    }
}

trait With {
    fn with(self, bytes: Vec<u8>) -> Part;
}

impl With for Part {
    fn with(self, bytes: Vec<u8>) -> Part {
        Part { bytes: std::sync::Arc::new(bytes), ..self }
    }
}
