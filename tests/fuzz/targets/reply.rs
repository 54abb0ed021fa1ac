//! Any bytes as the replies of one connection.

#![no_main]

use corelane_protocol::fuzz;
use corelane_protocol::wire::FRAME_BYTES_MAX;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    fuzz::reply(bytes, FRAME_BYTES_MAX);
});
