#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| hotpair_fuzz_checks::mirror_link(data));
