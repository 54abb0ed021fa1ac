//! Whole-system tests of Corelane. The library holds what several tests share: [`sim`], a
//! whole node in a fake world with the reference that its replies are checked against, and
//! [`source`], the repository as a text.

#![forbid(unsafe_code)]

pub mod sim;
pub mod source;
