//! Many small objects of one path become few large ones.
//!
//! A bucket is made of what each batch had for each path; readers want it larger. An object that
//! stands for others has their ranges in its name, and an account beside it says which it replaces:
//!
//! ```text
//! <path>/<topic>+<partition>+<start>-<end>+c<count>.<extension>           what stands for them
//! _headwater/compact/<topic>/<partition>/<hash of path>/<start>-<end>+c<count>.json    its account
//! ```
//!
//! | step | killed behind it |
//! |---|---|
//! | 1 the account is written | nothing has changed: whoever comes makes the same object, or takes the account back |
//! | 2 no other account names one of its objects | |
//! | 3 the new object is written | rows are there twice, and `verify` says so; whoever comes goes on with 4 |
//! | 4 the old objects are removed | |
//!
//! Two that run at once each write their account first and look at the others' second, so at least one
//! of them sees the other, and takes its own back. What a live loader may still write is never touched:
//! only batches below the newest state, whose offsets are committed.

pub mod account;
pub mod find;
pub mod join;
pub mod perform;
