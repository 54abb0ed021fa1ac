//! Any bytes as the requests of one connection. The first byte chooses the limits.

#![no_main]

use corelane_protocol::fuzz;
use corelane_protocol::limits::VALUE_BYTES_MAX;
use corelane_protocol::wire::DecodeLimits;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let Some((choice, bytes)) = input.split_first() else { return };
    let limits = match choice % 4 {
        0 => DecodeLimits { frame_bytes_max: 256, ..DecodeLimits::agreed(8, 32) },
        1 => DecodeLimits::BEFORE_HELLO,
        2 => DecodeLimits::agreed(100, VALUE_BYTES_MAX),
        _ => DecodeLimits::default(),
    };
    fuzz::request(bytes, &limits);
});
