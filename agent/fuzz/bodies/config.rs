//! Any text as a configuration: refused with its problems, or a plan that says the same when it is
//! written out and read again.

use headwater_agent::config::{ConfigFile, Host, Plan};

pub(crate) fn run(bytes: &[u8]) {
    let host = Host {
        machine_id: Some("pi-7".to_owned()),
    };
    let text = String::from_utf8_lossy(bytes);
    let Ok(file) = headwater_msk::config_file::parse::<ConfigFile>(&text) else {
        return;
    };
    match Plan::new(file, &host) {
        Err(problems) => assert!(!problems.is_empty()),
        Ok(plan) => {
            let written = toml::to_string(&plan.effective()).expect("a plan can be written");
            let again = headwater_msk::config_file::parse::<ConfigFile>(&written);
            let again = again.unwrap_or_else(|error| panic!("{error}\n{written}"));
            // Not a number is not itself: such a plan is refused.
            let again = Plan::new(again, &host);
            assert_eq!(again.as_ref(), Ok(&plan), "{written}");
        }
    }
}
