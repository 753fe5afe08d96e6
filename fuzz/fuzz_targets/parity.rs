#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    dbvault_fuzz::targets::parity(data);
});
