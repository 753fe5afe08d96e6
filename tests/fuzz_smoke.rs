//! The fuzz targets on stable: each over its seeds and over pseudo-random mutations of them, the same every time.
#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "a test: its helpers may panic, and say why")]

use std::fs;
use std::path::PathBuf;

#[path = "../fuzz/src/targets.rs"]
#[allow(unreachable_pub, reason = "public for the programs in fuzz/")]
mod targets;

// Where the targets look for it.
use dbvault_jobs::retention;
use targets::{TARGETS, Target};

use dbvault_testkit::package::package_dir;

const MUTATIONS: u32 = 20_000;

fn folder() -> PathBuf {
    package_dir().join("fuzz")
}

/// Small numbers that look random (xorshift; Marsaglia, "Xorshift RNGs", 2003).
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 16) as usize % bound.max(1)
    }
}

/// Tells the input when a target panics.
struct Input<'a> {
    target: &'a str,
    bytes: &'a [u8],
}

impl Drop for Input<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let hex: String = self.bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            println!("target {} fails on the input (hexadecimal): {hex}", self.target);
        }
    }
}

fn run(name: &'static str, target: Target, bytes: &[u8]) -> bool {
    let _told = Input { target: name, bytes };
    target(bytes)
}

fn mutate(bytes: &mut Vec<u8>, other: &[u8], random: &mut Random) {
    const ODD: [u8; 6] = [0, 1, 0x7f, 0x80, 0xfe, 0xff];
    for _ in 0..=random.below(3) {
        let at = random.below(bytes.len());
        match random.below(7) {
            0 => bytes.truncate(at),
            1 => bytes.insert(at, ODD[random.below(ODD.len())]),
            2 => bytes.extend_from_slice(&other[random.below(other.len())..]),
            3 if !bytes.is_empty() => {
                let end = (at + 1 + random.below(16)).min(bytes.len());
                let part = bytes[at..end].to_vec();
                bytes.splice(at..at, part);
            }
            4 if !bytes.is_empty() => bytes[at] = ODD[random.below(ODD.len())],
            5 if !bytes.is_empty() => {
                bytes.remove(at);
            }
            _ if !bytes.is_empty() => bytes[at] ^= 1 << random.below(8),
            _ => {}
        }
    }
}

fn smoke(name: &'static str, target: Target) {
    let seeds = fs::read_dir(folder().join("seeds").join(name)).expect("a directory of seeds");
    let mut seeds: Vec<_> = seeds.map(|seed| seed.unwrap().path()).collect();
    seeds.sort();
    let seeds: Vec<Vec<u8>> = seeds.iter().map(|path| fs::read(path).unwrap()).collect();
    let good = seeds.iter().filter(|seed| run(name, target, seed)).count();
    assert!(good > 0, "no seed of {name} is accepted: what is fuzzed is not reached");

    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    run(name, target, &[]);
    for _ in 0..MUTATIONS {
        let mut bytes = seeds[random.below(seeds.len())].clone();
        let other = &seeds[random.below(seeds.len())];
        mutate(&mut bytes, other, &mut random);
        run(name, target, &bytes);
    }
}

macro_rules! smoke_tests {
    ($($name:ident)*) => {
        $(#[test]
        fn $name() {
            smoke(stringify!($name), targets::$name);
        })*

        #[test]
        fn every_target_is_run_and_has_a_program() {
            let run = [$(stringify!($name)),*];
            let listed = TARGETS.map(|(name, _)| name);
            assert_eq!(run, listed);
            let manifest = fs::read_to_string(folder().join("Cargo.toml")).unwrap();
            for name in listed {
                assert!(manifest.contains(&format!("name = \"{name}\"\n")), "{name} is not in fuzz/Cargo.toml");
                let program = fs::read_to_string(folder().join(format!("fuzz_targets/{name}.rs"))).unwrap();
                assert!(program.contains(&format!("targets::{name}(data)")), "{name}");
            }
        }
    };
}

smoke_tests!(
    chunk_list config contents delta entry_table file_table index_segment key_slot manifest names object pack pack_directory
    parity pgdump record retention
);
