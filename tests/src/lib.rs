//! Whole-system tests of Corelane. The library holds what several tests share: [`sim`], a
//! whole node in a fake world, and the reference that its replies are checked against.

#![forbid(unsafe_code)]

pub mod sim;
