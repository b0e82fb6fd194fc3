//! One entry of `spec.containers`.

use super::config::FolderField;
use super::disk::{MountField, SystemDiskField};
use super::host_path::HostPathField;
use super::limits::{LimitsField, UlimitsField};
use super::probe::ProbeField;
use super::scalar::{Container, Image, ImageDigest, StopSignal, Whole32, chain};
use super::security::SecurityField;
use berth_model::{
    ContainerRequest, ContainerRole, ContainerSpec, EnvVar, InvalidSpec, Lifecycle, MAX_CONTAINERS, User,
};
use serde::de::value::MapAccessDeserializer;
use serde::de::{self, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use std::collections::BTreeSet;
use std::fmt;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct RawContainer {
    name: Container,
    #[serde(default)]
    role: RawRole,
    image: Image,
    digest: Option<ImageDigest>,
    #[serde(default)]
    command: Vec<String>,
    #[serde(default)]
    args: Vec<String>,
    #[serde(default)]
    env: Vec<RawEnv>,
    working_dir: Option<String>,
    user: Option<UserField>,
    #[serde(default)]
    security: SecurityField,
    lifecycle: Option<RawLifecycle>,
    #[serde(default)]
    mounts: Vec<MountField>,
    #[serde(default)]
    config: Vec<FolderField>,
    #[serde(default)]
    host_paths: Vec<HostPathField>,
    system_disk: Option<SystemDiskField>,
    #[serde(default)]
    limits: LimitsField,
    exclusive_cpus: Option<Whole32>,
    #[serde(default)]
    ulimits: UlimitsField,
    readiness: Option<ProbeField>,
}

#[derive(Debug, Default, Deserialize)]
enum RawRole {
    #[default]
    Main,
    Init,
    Sidecar,
}

impl From<RawRole> for ContainerRole {
    fn from(raw: RawRole) -> Self {
        match raw {
            RawRole::Main => Self::Main,
            RawRole::Init => Self::Init,
            RawRole::Sidecar => Self::Sidecar,
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct RawLifecycle {
    #[serde(default)]
    pre_stop: Vec<String>,
    stop_signal: Option<StopSignal>,
}

impl From<RawLifecycle> for Lifecycle {
    fn from(raw: RawLifecycle) -> Self {
        Self { pre_stop: raw.pre_stop, stop_signal: raw.stop_signal.map(|signal| signal.0) }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawEnv {
    name: String,
    value: String,
}

/// A container, checked by itself.
#[derive(Debug, Deserialize)]
#[serde(try_from = "RawContainer")]
struct ContainerField(ContainerRequest);

impl TryFrom<RawContainer> for ContainerField {
    type Error = String;

    fn try_from(raw: RawContainer) -> Result<Self, String> {
        let env = |raw: RawEnv| EnvVar { name: raw.name, value: raw.value };
        let exclusive_cpus = raw.exclusive_cpus.map(|count| count.0);
        if exclusive_cpus == Some(0) {
            return Err(
                "exclusiveCpus is 0: leave it out to let the container use all of the pod's".to_owned()
            );
        }
        let container = ContainerRequest {
            name: raw.name.0,
            role: raw.role.into(),
            image: raw.image.0,
            digest: raw.digest.map(|digest| digest.0),
            command: raw.command,
            args: raw.args,
            env: raw.env.into_iter().map(env).collect(),
            working_dir: raw.working_dir,
            user: raw.user.map(|user| user.0),
            security: raw.security.0,
            lifecycle: raw.lifecycle.map_or_else(Lifecycle::default, Into::into),
            mounts: raw.mounts.into_iter().map(|mount| mount.0).collect(),
            config: raw.config.into_iter().map(|folder| folder.0).collect(),
            host_paths: raw.host_paths.into_iter().map(|path| path.0).collect(),
            system_disk_size: raw.system_disk.as_ref().map(SystemDiskField::size),
            limits: raw.limits.0,
            exclusive_cpus,
            ulimits: raw.ulimits.0,
            readiness: raw.readiness.map(|probe| probe.0),
        };
        as_placed(&container).validate().map_err(|error| chain(&error))?;
        Ok(Self(container))
    }
}

/// The container as a node would be told it, so that the node's own checks can be made here.
fn as_placed(container: &ContainerRequest) -> ContainerSpec {
    let container = container.clone();
    ContainerSpec {
        name: container.name,
        role: container.role,
        image: container.image,
        digest: container.digest,
        command: container.command,
        args: container.args,
        env: container.env,
        working_dir: container.working_dir,
        user: container.user,
        security: container.security,
        lifecycle: container.lifecycle,
        mounts: container.mounts,
        config: container.config,
        host_paths: container.host_paths,
        system_disk_size: container.system_disk_size,
        limits: container.limits,
        cpus: None,
        ulimits: container.ulimits,
        readiness: container.readiness,
    }
}

/// All containers of a pod.
#[derive(Debug, Deserialize)]
#[serde(try_from = "Vec<ContainerField>")]
pub(super) struct ContainersField(pub(super) Vec<ContainerRequest>);

impl TryFrom<Vec<ContainerField>> for ContainersField {
    type Error = String;

    fn try_from(fields: Vec<ContainerField>) -> Result<Self, String> {
        let containers: Vec<_> = fields.into_iter().map(|field| field.0).collect();
        if containers.is_empty() {
            return Err("a pod has at least one container".to_owned());
        }
        if containers.len() > MAX_CONTAINERS {
            return Err(format!("{} containers, at most {MAX_CONTAINERS} are possible", containers.len()));
        }
        if containers.iter().all(|container| container.role != ContainerRole::Main) {
            return Err(InvalidSpec::NoMainContainer.to_string());
        }
        let mut names = BTreeSet::new();
        match containers.iter().find(|container| !names.insert(&container.name)) {
            Some(twice) => Err(format!("container name {} is given twice", twice.name)),
            None => Ok(Self(containers)),
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawUser {
    uid: Whole32,
    gid: Option<Whole32>,
}

/// `{uid, gid}`, or a name from the image's user database.
#[derive(Debug)]
struct UserField(User);

impl<'de> Deserialize<'de> for UserField {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(UserVisitor).map(Self)
    }
}

struct UserVisitor;

impl<'de> Visitor<'de> for UserVisitor {
    type Value = User;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a user: {uid: 999, gid: 999}, or a name from the image's /etc/passwd")
    }

    fn visit_str<E: de::Error>(self, name: &str) -> Result<User, E> {
        let named = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
            && name.bytes().all(|byte| byte.is_ascii_graphic() && byte != b':');
        if !named {
            return Err(E::custom(format!(
                "user {name:?} is no user's name; a number goes into {{uid: 999}}"
            )));
        }
        Ok(User::Name(name.to_owned()))
    }

    fn visit_u64<E: de::Error>(self, uid: u64) -> Result<User, E> {
        Err(E::custom(format!("user {uid} is a number: write {{uid: {uid}}}")))
    }

    fn visit_i64<E: de::Error>(self, uid: i64) -> Result<User, E> {
        Err(E::custom(format!("user {uid} is a number: write {{uid: 999}}")))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<User, A::Error> {
        let raw = RawUser::deserialize(MapAccessDeserializer::new(map))?;
        Ok(User::Id { uid: raw.uid.0, gid: raw.gid.map(|gid| gid.0) })
    }
}
