//! Links the agent that is released (profiles `release-small` and `release-fast`) without unwind tables.
//!
//! They are a seventh of it: those of the C libraries, and those of the standard library, which comes
//! compiled with them whatever the profile says. Nothing reads them where a panic aborts: that it does
//! so is checked in `main.rs`. It is done at the link, so that a plain `cargo build --profile
//! release-small` has it on every target, and no dependency is compiled in two ways.
//!
//! What it costs: `RUST_BACKTRACE=1` shows no frames. A panic's message, file and line stay, and go to
//! standard error as ever.

use std::env;
use std::path::PathBuf;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=without-unwind-tables.ld");
    println!("cargo:rustc-check-cfg=cfg(without_unwind_tables)");
    // What `panic` is in the profile is not told to build scripts, nor the profile's name but here:
    // target/[TRIPLE/]PROFILE/build/PACKAGE/out
    let out = env::var_os("OUT_DIR").map(PathBuf::from);
    let profile = out
        .as_deref()
        .and_then(|out| out.ancestors().nth(3)?.file_name());
    let is_linux = env::var_os("CARGO_CFG_TARGET_OS").is_some_and(|os| os == "linux");
    let is_released =
        profile.is_some_and(|profile| profile == "release-small" || profile == "release-fast");
    // Where this runs, not where it was compiled: a shared target folder outlives a checkout.
    if is_released
        && is_linux
        && let Some(folder) = env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from)
    {
        let script = folder.join("without-unwind-tables.ld");
        println!("cargo:rustc-link-arg-bins=-Wl,-T,{}", script.display());
        println!("cargo:rustc-cfg=without_unwind_tables");
    }
}
