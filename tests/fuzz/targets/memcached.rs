//! Any bytes as the commands of one memcached connection, cut in several ways. The first four
//! bytes are lengths of pieces.

#![no_main]

use corelane_dialect::fuzz;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let Some((cuts, bytes)) = input.split_first_chunk::<4>() else { return };
    fuzz::memcached(bytes, cuts);
});
