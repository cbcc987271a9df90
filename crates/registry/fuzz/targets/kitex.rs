#![no_main]

use registry::dialect::DialectName;

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    registry_fuzz::check(DialectName::Kitex, input);
});
