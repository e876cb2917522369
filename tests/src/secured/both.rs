//! Agent and loader both by IAM, each with the least that `deploy/` gives its role.

use super::{Running, Secured, loader};
use crate::kafka::iam::ACCOUNT;
use crate::kafka::{Listener, Policy};
use crate::loading::Loading;
use crate::outside::unique;
use crate::process::Setup;

/// Whom the brokers see.
#[derive(Debug, Clone)]
pub struct Principals {
    /// The agent's.
    pub agent: String,
    /// The loader's.
    pub loader: String,
}

impl Secured<'_> {
    /// A loader by IAM with credentials of AWS IoT, by a certificate and a role of its own. Returns
    /// whom the brokers see, too.
    pub fn loader_by_iam(&self, loading: &Loading<'_>) -> (Setup, String) {
        let (task, role) = (self.msk.device(&unique("task")), unique("loader"));
        self.iot.register(&task);
        self.iot.set_alias("loaders", &role);
        self.put_identity(&task, "task");
        let policy = Policy::loader(&loading.topic, loading.group());
        self.msk.iam().set_policy(&role, &policy);
        let security = self.iam_security() + &self.section("loaders", &task.name, "task");
        let setup = loader(loading, &self.msk.bootstrap(Listener::Iam), &security);
        let principal = format!("arn:aws:sts::{ACCOUNT}:assumed-role/{role}/{}", task.id);
        (setup, principal)
    }
}

impl<'a> Running<'a> {
    /// The device's agent and a loader, both by IAM.
    pub fn by_iam(world: &'a Secured<'_>, name: &str) -> (Self, Principals) {
        let loading = world.loading(name);
        world.allow(&loading.topic);
        let (loader, principal) = world.loader_by_iam(&loading);
        let principals = Principals {
            agent: world.principal(&world.device),
            loader: principal,
        };
        let agent = world.agent(&loading);
        (Self::of(world, loading, agent, loader), principals)
    }
}
