//! Credentials as AWS's tools find them, in their order: environment, profile (with
//! `credential_process` and assumed roles), web identity, container endpoint (ECS, Greengrass, EKS
//! Pod Identity), instance (IMDSv2).
//!
//! What is ours: the name of an STS session is pinned. `aws-config` makes a new one at each refresh
//! where none is given, and MSK closes a connection that comes back under another name ("Cannot
//! change principals during re-authentication").

use std::time::Duration;

use aws_config::BehaviorVersion;
use aws_config::Region;
use aws_config::ecs::EcsCredentialsProvider;
use aws_config::environment::EnvironmentVariableCredentialsProvider;
use aws_config::imds::credentials::ImdsCredentialsProvider;
use aws_config::profile::{ProfileFileCredentialsProvider, ProfileSet};
use aws_config::provider_config::ProviderConfig;
use aws_config::web_identity_token::{StaticConfiguration, WebIdentityTokenCredentialsProvider};
use aws_credential_types::Credentials;
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{ProvideCredentials as _, SharedCredentialsProvider};
use aws_types::os_shim_internal::{Env, Fs};

use super::process;
use super::source::{BoxFuture, CredentialSource, Fetched, SourceError};
use crate::http::{Tls, for_aws};

/// For all of the chain: an assumed role behind a slow STS takes seconds.
const PATIENCE: Duration = Duration::from_secs(30);

/// The chain, for one region and one session name.
#[derive(Debug)]
pub struct ChainSource {
    region: String,
    session_name: String,
}

impl ChainSource {
    /// A source. `session_name` stands in where a role is assumed and nothing else names the session.
    pub fn new(region: &str, session_name: &str) -> Self {
        Self {
            region: region.to_owned(),
            session_name: session_name.to_owned(),
        }
    }

    async fn ask(&self) -> Result<Fetched, SourceError> {
        let env = Env::default();
        if env.get("AWS_ACCESS_KEY_ID").is_ok() {
            // Nothing else is looked at then, and no TLS is needed.
            let given = EnvironmentVariableCredentialsProvider::new();
            let links = [("environment", SharedCredentialsProvider::new(given))];
            return first_of(&links, &env).await;
        }
        let profiles = profiles(&env).await?;
        pinned(&profiles)?;
        if let Some(command) = own_process(&profiles) {
            return process::run(command)
                .await
                .map(|found| fetched(found, &env));
        }
        let tls = Tls::new(None, None)?;
        let config = ProviderConfig::without_region()
            .with_behavior_version(Some(BehaviorVersion::latest()))
            .with_region(Some(Region::new(self.region.clone())))
            .with_http_client(for_aws(tls));
        let profile = ProfileFileCredentialsProvider::builder().configure(&config);
        let mut links = vec![("profile", SharedCredentialsProvider::new(profile.build()))];
        if let Some(web_identity) = self.web_identity(&env) {
            let web_identity = WebIdentityTokenCredentialsProvider::builder()
                .static_configuration(web_identity)
                .configure(&config);
            links.push((
                "web identity",
                SharedCredentialsProvider::new(web_identity.build()),
            ));
        }
        let container = EcsCredentialsProvider::builder().configure(&config);
        let instance = ImdsCredentialsProvider::builder().configure(&config);
        links.extend([
            (
                "container endpoint",
                SharedCredentialsProvider::new(container.build()),
            ),
            (
                "instance (IMDSv2)",
                SharedCredentialsProvider::new(instance.build()),
            ),
        ]);
        first_of(&links, &env).await
    }

    fn web_identity(&self, env: &Env) -> Option<StaticConfiguration> {
        let session_name = env.get("AWS_ROLE_SESSION_NAME").ok();
        Some(StaticConfiguration {
            web_identity_token_file: env.get("AWS_WEB_IDENTITY_TOKEN_FILE").ok()?.into(),
            role_arn: env.get("AWS_ROLE_ARN").ok()?,
            session_name: session_name.unwrap_or_else(|| self.session_name.clone()),
        })
    }
}

impl CredentialSource for ChainSource {
    fn fetch(&self) -> BoxFuture<'_, Result<Fetched, SourceError>> {
        Box::pin(async {
            tokio::time::timeout(PATIENCE, self.ask())
                .await
                .map_err(|_| SourceError::Late(PATIENCE.as_secs()))?
        })
    }

    fn name(&self) -> &'static str {
        "AWS's credential chain (environment, profile, web identity, container, instance)"
    }
}

/// Credentials of the first link that has some. One that has some and cannot give them ends the
/// chain, as with AWS's tools: the next one's would be somebody else's.
async fn first_of(
    links: &[(&'static str, SharedCredentialsProvider)],
    env: &Env,
) -> Result<Fetched, SourceError> {
    for (name, link) in links {
        match link.provide_credentials().await {
            Ok(credentials) => return Ok(fetched(credentials, env)),
            Err(error @ CredentialsError::CredentialsNotLoaded(_)) => {
                tracing::debug!(link = name, reason = reason(&error), "no credentials here");
            }
            Err(error) => return Err(SourceError::Setup(format!("{name}: {}", reason(&error)))),
        }
    }
    Err(SourceError::Setup(
        "none of environment, profile, web identity, container endpoint and instance has credentials"
            .to_owned(),
    ))
}

fn fetched(credentials: Credentials, env: &Env) -> Fetched {
    Fetched {
        identity: identity(&credentials, env.get("AWS_ROLE_ARN").ok().as_deref()),
        credentials,
        said: None,
    }
}

/// Whose credentials they are. Long-term keys are told apart by their id; temporary ones have a new
/// id each time, and are told apart by where they came from and for which role.
fn identity(credentials: &Credentials, role: Option<&str>) -> String {
    match credentials.session_token() {
        None => format!("access key {}", credentials.access_key_id()),
        Some(_) => format!("a role by {}", role.unwrap_or("the credential chain")),
    }
}

/// All of an error's causes in a row.
fn reason(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        next = cause.source();
    }
    text
}

async fn profiles(env: &Env) -> Result<ProfileSet, SourceError> {
    aws_config::profile::load(&Fs::default(), env, &Default::default(), None)
        .await
        .map_err(|error| SourceError::Setup(format!("cannot read the AWS profile: {error}")))
}

/// The program of the selected profile, where that is what gives the credentials: nothing stands
/// beside it that `aws-config` would take before it (`profile/credentials/repr.rs`).
fn own_process(profiles: &ProfileSet) -> Option<&str> {
    let before = [
        "role_arn",
        "credential_source",
        "web_identity_token_file",
        "login_session",
        "sso_session",
        "sso_account_id",
        "sso_region",
        "sso_role_name",
        "sso_start_url",
    ];
    let is_other = before.iter().any(|key| profiles.get(key).is_some());
    (profiles.get("credential_process")).filter(|_| !is_other)
}

/// Whether the selected profile names its session, where it assumes a role.
fn pinned(profiles: &ProfileSet) -> Result<(), SourceError> {
    let name = profiles.selected_profile();
    let role = profiles.get("role_arn");
    match (role, profiles.get("role_session_name")) {
        (Some(role), None) => Err(SourceError::Setup(format!(
            "the AWS profile {name:?} assumes {role} without role_session_name: the session would have a new name at each refresh, and MSK closes a connection whose name changes; add a line such as role_session_name = headwater to the profile"
        ))),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn profiles(config: &str) -> ProfileSet {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        let fs = Fs::from_slice(&[("/config", config)]);
        let env = Env::from_slice(&[("AWS_CONFIG_FILE", "/config"), ("AWS_PROFILE", "device")]);
        let files = Default::default();
        let profiles = aws_config::profile::load(&fs, &env, &files, None);
        runtime.block_on(profiles).unwrap()
    }

    fn profile(config: &str) -> Result<(), SourceError> {
        pinned(&profiles(config))
    }

    #[test]
    fn a_program_is_ours_to_run_where_nothing_goes_before_it() {
        let program = "[profile device]\ncredential_process = /bin/x y\n";
        assert_eq!(own_process(&profiles(program)), Some("/bin/x y"));
        assert_eq!(own_process(&profiles("")), None);
        for more in [
            "role_arn = r",
            "web_identity_token_file = f",
            "sso_session = s",
        ] {
            assert_eq!(own_process(&profiles(&format!("{program}{more}\n"))), None);
        }
        // As with AWS's tools: keys that stand beside it come after it.
        let keys = format!("{program}aws_access_key_id = A\naws_secret_access_key = s\n");
        assert_eq!(own_process(&profiles(&keys)), Some("/bin/x y"));
    }

    #[test]
    fn an_assumed_role_has_to_name_its_session() {
        let role = "[profile device]\nrole_arn = arn:aws:iam::1:role/r\nsource_profile = base\n";
        let error = profile(role).unwrap_err().to_string();
        assert!(
            error.contains("role_session_name") && error.contains("device"),
            "{error}"
        );
        assert!(profile(&format!("{role}role_session_name = pi-7\n")).is_ok());
        assert!(profile("[profile device]\ncredential_process = /bin/x\n").is_ok());
        assert!(profile("").is_ok());
    }

    #[test]
    fn long_term_keys_are_told_apart_and_temporary_ones_are_not() {
        let long = |id| identity(&Credentials::new(id, "s", None, None, "x"), None);
        assert_ne!(long("A"), long("B"));
        let temporary = |id| {
            let credentials = Credentials::new(id, "s", Some("t".into()), None, "x");
            identity(&credentials, Some("arn:role"))
        };
        assert_eq!(temporary("A"), temporary("B"));
        assert_ne!(long("A"), temporary("A"));
    }
}
