//! What others wrote into topic and group, read from librdkafka itself: the one module of this crate with
//! `unsafe`.
//!
//! The `rdkafka` crate panics, in places inside a callback of C, at text that is not UTF-8. Whoever may produce
//! could end every loader that reads a record so, and whoever may commit for the group every loader of it, again
//! after each start. Here such text stops nothing but what it is about. Beside it stands what `rdkafka` has no call for.

#![expect(
    unsafe_code,
    reason = "rdkafka's own reading panics at what is not UTF-8, and lacks a call; see the module's head"
)]

pub(super) mod headers;
pub(super) mod metadata;
