//! Who names the device: the configuration, else the thing of AWS IoT that it shows itself as, else the
//! machine-id. Pure.

use headwater_record::DeviceId;

use super::Host;
use super::file::ConfigFile;
use super::problems::Check;

/// Where a device's name comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NamedBy {
    /// `device` is set.
    Device,
    /// `thing` of `[credentials.iot]` is.
    Thing,
    /// Nothing is; the installation of Linux has an id.
    MachineId,
}

impl NamedBy {
    /// The device's name, not yet checked, and where it comes from; none where nothing names it.
    pub(crate) fn of<'a>(config: &'a ConfigFile, host: &'a Host) -> Option<(&'a str, Self)> {
        let iot = config.credentials.iot.as_ref();
        let thing = iot.and_then(|iot| iot.thing.as_deref());
        let named = |name: Option<&'a str>, by| name.map(|name| (name, by));
        named(config.device.as_deref(), Self::Device)
            .or_else(|| named(thing, Self::Thing))
            .or_else(|| named(host.machine_id.as_deref(), Self::MachineId))
    }

    /// What `check` says of a name that is not written; none where it is.
    pub(crate) fn said(self) -> Option<&'static str> {
        match self {
            Self::Device => None,
            Self::Thing => {
                Some("device is not set: it goes by the thing's name (credentials.iot.thing)")
            }
            Self::MachineId => Some("device is not set: it goes by /etc/machine-id"),
        }
    }
}

impl Check {
    pub(super) fn device(&mut self, config: &ConfigFile, host: &Host) -> Option<DeviceId> {
        let Some((name, by)) = NamedBy::of(config, host) else {
            self.problem(
                "device",
                "not set, and /etc/machine-id holds no id to stand in: name the device",
            );
            return None;
        };
        match name.parse() {
            Ok(device) => Some(device),
            Err(error) => {
                let (key, what) = match by {
                    NamedBy::Device => ("device", format!("{name:?} cannot be an id: {error}")),
                    NamedBy::MachineId => (
                        "device",
                        format!(
                            "not set, and {name:?} of /etc/machine-id cannot be an id: {error}"
                        ),
                    ),
                    NamedBy::Thing => (
                        "credentials.iot.thing",
                        format!(
                            "{name:?} names the device where device is not set, and cannot be an id: {error}; \
                             set device as well"
                        ),
                    ),
                };
                self.problem(key, what);
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Plan;
    use super::*;

    fn device(device: &str, iot: &str, machine_id: Option<&str>) -> Result<String, String> {
        let text = format!(
            "{device}\n[kafka]\nbrokers = [\"localhost:9092\"]\ntopic = \"logs\"\n{iot}\n\
             [[file]]\nid = \"a\"\npaths = [\"/a\"]\n"
        );
        let config = headwater_msk::config_file::parse(&text).unwrap();
        let host = Host {
            machine_id: machine_id.map(str::to_owned),
        };
        let plan = Plan::new(config, &host).map_err(|problems| problems[0].to_string())?;
        Ok(plan.device.to_string())
    }

    #[test]
    fn it_is_named_by_the_configuration_or_its_thing_or_the_machine() {
        let thing = |name: &str| {
            format!(
                "[kafka.security]\nmode = \"iam\"\nregion = \"eu-west-1\"\n\
                 [credentials.iot]\nendpoint = \"https://x.example\"\nrole_alias = \"fleet\"\n\
                 certificate = \"/c\"\nkey = \"credential:k\"\n{name}"
            )
        };
        let pi = thing("thing = \"pi-7:a_b\"");
        let check = |written, iot: &str, machine_id, expect: Result<&str, &str>| {
            let named = device(written, iot, machine_id);
            assert_eq!(named.as_deref().map_err(String::as_str), expect);
        };
        check("device = \"d\"", &pi, Some("m"), Ok("d"));
        check("", &pi, Some("m"), Ok("pi-7:a_b"));
        check("", &pi, None, Ok("pi-7:a_b"));
        check("", &thing(""), Some("m"), Ok("m"));
        check("", "", Some("m"), Ok("m"));
        check(
            "",
            "",
            None,
            Err("device: not set, and /etc/machine-id holds no id to stand in: name the device"),
        );
        let bad = thing("thing = \"site/pi\"");
        let told = "credentials.iot.thing: \"site/pi\" names the device where device is not set, and cannot be an id: \
                    it holds '/': ids are printable ASCII without '/' and blanks; set device as well";
        check("", &bad, Some("m"), Err(told));
        let told = "device: not set, and \"m/\" of /etc/machine-id cannot be an id: \
                    it holds '/': ids are printable ASCII without '/' and blanks";
        check("", "", Some("m/"), Err(told));
    }
}
