//! Where AWS credentials come from, and how they are kept: in memory, fresh, and nowhere else.
//!
//! ```text
//!   settings ─► source: iot | chain ──fetch──► session ──sign──► token ─► librdkafka
//!                          ▲                     │ ▲
//!                          └──── schedule ◄──────┘ └── clock (which time to sign with)
//! ```
//!
//! - [`settings`]: `[credentials]`, as it is written.
//! - [`source`]: what a source is; [`iot`]: AWS IoT Core; [`chain`]: as AWS's tools find them;
//!   [`process`]: an external program.
//! - [`schedule`] and [`clock`]: when to fetch and sign, and with which time. Pure.
//! - [`session`]: the thread that keeps both fresh, and hands tokens to the clients; [`health`]: how
//!   it goes with that.

pub mod chain;
pub mod clock;
pub mod health;
pub mod iot;
pub mod process;
pub mod schedule;
mod secret;
pub mod session;
pub mod settings;
pub mod source;

pub use health::Health;
pub use session::{Session, TokenUser};
pub use settings::{CredentialSettings, IotSettings};
pub use source::{CredentialSource, Fetched, SourceError};
