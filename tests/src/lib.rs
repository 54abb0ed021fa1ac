//! Whole-system tests of Corelane. The library holds what several tests share: [`cluster`],
//! several nodes in a fake world; [`sim`], a whole node in one, with the reference that its
//! replies are checked against; [`differences`], what is answered otherwise on purpose; [`source`], the repository as a text; [`embedded`], a real node; and
//! [`peer`], servers that none of us wrote.

#![forbid(unsafe_code)]

pub mod cluster;
pub mod differences;
pub mod embedded;
pub mod peer;
pub mod sim;
pub mod source;
