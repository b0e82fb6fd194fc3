//! Single changes of a pod from the command line, as one patch. Pure: words in, message out.

use crate::failure::{Failure, Result};
use berth_model::{Bytes, ContainerName, CpuMax, CpuWeight, EnvVar, ImageName, MilliCpu, Ulimit};
use berth_proto::v1;
use clap::Args;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// What an upgrade can change by single words.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct PatchArgs {
    /// Another image for a container; repeat it for several
    #[arg(long = "image", value_name = "CONTAINER=IMAGE", value_parser = parse_image)]
    pub images: Vec<(ContainerName, ImageName)>,
    /// An environment variable of a container, set or replaced
    #[arg(long = "env", value_name = "CONTAINER:NAME=VALUE", value_parser = parse_env)]
    pub env: Vec<(ContainerName, EnvVar)>,
    /// An environment variable of a container that goes
    #[arg(long = "unset-env", value_name = "CONTAINER:NAME", value_parser = parse_env_name)]
    pub unset_env: Vec<(ContainerName, String)>,
    /// A configuration file of a container, set or replaced by what is in FILE
    #[arg(long = "config-file", value_name = "CONTAINER:PATH=FILE", value_parser = parse_config)]
    pub config_files: Vec<ConfigArg>,
}

/// One `--config-file`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ConfigArg {
    container: ContainerName,
    folder: String,
    name: String,
    from: PathBuf,
}

/// What a resize can change by single words.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct LimitArgs {
    /// Limits are of this container, not of the pod as a whole
    #[arg(long, value_name = "NAME")]
    pub container: Option<ContainerName>,
    /// memory.max, such as 512Mi
    #[arg(long, value_name = "SIZE")]
    pub memory_max: Option<Bytes>,
    /// memory.high
    #[arg(long, value_name = "SIZE")]
    pub memory_high: Option<Bytes>,
    /// memory.low
    #[arg(long, value_name = "SIZE")]
    pub memory_low: Option<Bytes>,
    /// memory.min
    #[arg(long, value_name = "SIZE")]
    pub memory_min: Option<Bytes>,
    /// memory.swap.max: swap alone
    #[arg(long, value_name = "SIZE")]
    pub swap_max: Option<Bytes>,
    /// Most processes and threads
    #[arg(long, value_name = "NUMBER")]
    pub pids_max: Option<u64>,
    /// CPU time as so many CPUs, such as 1500m
    #[arg(long, value_name = "CPUS")]
    pub cpus: Option<MilliCpu>,
    /// cpu.weight, 1 to 10000
    #[arg(long, value_name = "WEIGHT")]
    pub cpu_weight: Option<u64>,
    /// A resource limit of the container's processes; hard is soft when left out, unlimited is a value
    #[arg(long = "ulimit", value_name = "NAME=SOFT[:HARD]", value_parser = parse_ulimit, requires = "container")]
    pub ulimits: Vec<v1::Ulimit>,
    /// What is reserved for the pod on its node
    #[arg(long, value_name = "SIZE")]
    pub memory_request: Option<Bytes>,
    /// So many CPUs for the pod alone; of a container: so many of the pod's
    #[arg(long, value_name = "COUNT")]
    pub exclusive: Option<u32>,
}

fn split<'a>(text: &'a str, at: char, form: &str) -> std::result::Result<(ContainerName, &'a str), String> {
    let (name, rest) = text.split_once(at).ok_or_else(|| format!("{text:?} is not of the form {form}"))?;
    let name = name.parse::<ContainerName>().map_err(|error| error.to_string())?;
    Ok((name, rest))
}

fn parse_image(text: &str) -> std::result::Result<(ContainerName, ImageName), String> {
    let (name, image) = split(text, '=', "CONTAINER=IMAGE")?;
    Ok((name, image.parse().map_err(|error: berth_model::InvalidImage| error.to_string())?))
}

fn parse_env(text: &str) -> std::result::Result<(ContainerName, EnvVar), String> {
    let form = "CONTAINER:NAME=VALUE";
    let (container, rest) = split(text, ':', form)?;
    let (name, value) = rest.split_once('=').ok_or_else(|| format!("{text:?} is not of the form {form}"))?;
    if name.is_empty() {
        return Err(format!("{text:?} names no variable"));
    }
    Ok((container, EnvVar { name: name.to_owned(), value: value.to_owned() }))
}

fn parse_env_name(text: &str) -> std::result::Result<(ContainerName, String), String> {
    let (container, name) = split(text, ':', "CONTAINER:NAME")?;
    match name.is_empty() || name.contains('=') {
        true => Err(format!("{name:?} is no variable's name")),
        false => Ok((container, name.to_owned())),
    }
}

fn parse_config(text: &str) -> std::result::Result<ConfigArg, String> {
    let form = "CONTAINER:PATH=FILE";
    let (container, rest) = split(text, ':', form)?;
    let (path, from) = rest.split_once('=').ok_or_else(|| format!("{text:?} is not of the form {form}"))?;
    let (folder, name) = path
        .rsplit_once('/')
        .filter(|(folder, name)| folder.starts_with('/') && !name.is_empty())
        .ok_or_else(|| {
            format!("{path:?} is no file in a folder of the container, such as /etc/web/web.conf")
        })?;
    Ok(ConfigArg { container, folder: folder.to_owned(), name: name.to_owned(), from: from.into() })
}

fn parse_ulimit(text: &str) -> std::result::Result<v1::Ulimit, String> {
    let (rlimit, values) =
        text.split_once('=').ok_or_else(|| format!("{text:?} is not of the form NAME=SOFT[:HARD]"))?;
    rlimit.parse::<berth_model::Rlimit>().map_err(|error| error.to_string())?;
    let value = |text: &str| match text {
        "unlimited" => Ok(Ulimit::UNLIMITED),
        number => number.parse().map_err(|_| format!("{number:?} is neither a number nor unlimited")),
    };
    let (soft, hard) = values.split_once(':').unwrap_or((values, values));
    Ok(v1::Ulimit { rlimit: rlimit.to_owned(), soft: value(soft)?, hard: value(hard)? })
}

impl PatchArgs {
    /// The patch; the empty one where nothing is named.
    ///
    /// # Errors
    /// Words that contradict each other, and files that cannot be read.
    pub(crate) fn patch(&self, read: impl Fn(&Path) -> Result<Vec<u8>>) -> Result<v1::PodPatch> {
        let mut containers: BTreeMap<&ContainerName, v1::ContainerPatch> = BTreeMap::new();
        for (name, image) in &self.images {
            let known = containers.entry(name).or_default().image.replace(image.to_string());
            if known.is_some() {
                return Err(Failure::usage(format!("container {name} is given two images")));
            }
        }
        for (name, EnvVar { name: variable, value }) in &self.env {
            let (name, value) = (name, value.clone());
            let variable = v1::EnvVar { name: variable.clone(), value };
            containers.entry(name).or_default().env.push(variable);
        }
        for (name, variable) in &self.unset_env {
            containers.entry(name).or_default().unset_env.push(variable.clone());
        }
        for ConfigArg { container, folder, name, from } in &self.config_files {
            // 0: the mode of a new file.
            let file = v1::ConfigFile { name: name.clone(), content: read(from)?, mode: 0 };
            let folder = v1::ConfigFolder { path: folder.clone(), files: vec![file] };
            containers.entry(container).or_default().config.push(folder);
        }
        let named = |(name, patch): (&ContainerName, v1::ContainerPatch)| v1::ContainerPatch {
            name: name.to_string(),
            ..patch
        };
        Ok(v1::PodPatch {
            containers: containers.into_iter().map(named).collect(),
            ..v1::PodPatch::default()
        })
    }
}

impl LimitArgs {
    fn limits(&self) -> Result<Option<v1::Limits>> {
        let bytes = |size: Option<Bytes>| size.map(|size| size.0);
        let weight = self.cpu_weight.map(CpuWeight::new).transpose();
        let weight = weight.map_err(|error| Failure::usage(error.to_string()))?;
        let period_us = CpuMax::DEFAULT_PERIOD_US;
        let cpu_max =
            |MilliCpu(milli)| v1::CpuMax { quota_us: u64::from(milli) * period_us / 1_000, period_us };
        let limits = v1::Limits {
            cpu_weight: weight.map(|weight| u64::from(weight.get())),
            cpu_max: self.cpus.map(cpu_max),
            memory_min_bytes: bytes(self.memory_min),
            memory_low_bytes: bytes(self.memory_low),
            memory_high_bytes: bytes(self.memory_high),
            memory_max_bytes: bytes(self.memory_max),
            swap_max_bytes: bytes(self.swap_max),
            pids_max: self.pids_max,
            io: Vec::new(),
            hugetlb: Vec::new(),
        };
        Ok((limits != v1::Limits::default()).then_some(limits))
    }

    /// The patch; the empty one where nothing is named.
    pub(crate) fn patch(&self) -> Result<v1::PodPatch> {
        let memory_request_bytes = self.memory_request.map(|size| size.0);
        let limits = self.limits()?;
        let Some(name) = &self.container else {
            use v1::cpu_request::Request;
            let exclusive = |count| v1::CpuRequest {
                request: Some(Request::Exclusive(v1::ExclusiveCpuRequest { count })),
            };
            let cpu = self.exclusive.map(exclusive);
            return Ok(v1::PodPatch { containers: Vec::new(), limits, memory_request_bytes, cpu });
        };
        let container = v1::ContainerPatch {
            name: name.to_string(),
            limits,
            exclusive_cpus: self.exclusive,
            ulimits: self.ulimits.clone(),
            ..v1::ContainerPatch::default()
        };
        let named = v1::ContainerPatch { name: name.to_string(), ..v1::ContainerPatch::default() };
        if container == named && memory_request_bytes.is_none() {
            return Err(Failure::usage(format!("nothing to change of container {name} is named")));
        }
        Ok(v1::PodPatch { containers: vec![container], memory_request_bytes, ..v1::PodPatch::default() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words() {
        let (name, image) = parse_image("web=registry.example:5000/web:2").unwrap();
        assert_eq!((name.as_str(), image.to_string().as_str()), ("web", "registry.example:5000/web:2"));
        let (name, variable) = parse_env("web:URL=http://a/?b=c").unwrap();
        assert_eq!(
            (name.as_str(), variable.name.as_str(), variable.value.as_str()),
            ("web", "URL", "http://a/?b=c")
        );
        assert_eq!(parse_ulimit("nofile=1:unlimited").unwrap().hard, Ulimit::UNLIMITED);
        assert_eq!(parse_ulimit("nofile=7").unwrap().hard, 7);
        let bad = |said: std::result::Result<(), String>, expected: &str| {
            let said = said.unwrap_err();
            assert!(said.contains(expected), "{said}");
        };
        bad(parse_image("web").map(drop), "CONTAINER=IMAGE");
        bad(parse_image("web=redis").map(drop), "registry/repository");
        bad(parse_env("web:A").map(drop), "CONTAINER:NAME=VALUE");
        bad(parse_env("web:=a").map(drop), "names no variable");
        bad(parse_env_name("web:A=b").map(drop), "no variable's name");
        bad(parse_config("web:/etc/web.conf").map(drop), "CONTAINER:PATH=FILE");
        for path in ["web.conf", "/web.conf", "/etc/web/", "etc/web.conf"] {
            bad(parse_config(&format!("web:{path}=x")).map(drop), "no file in a folder of the container");
        }
        bad(parse_ulimit("files=7").map(drop), "files");
        bad(parse_ulimit("nofile=many").map(drop), "neither a number nor unlimited");
    }

    /// Every command takes `--config`, which is about the command itself, and may be in the environment.
    #[test]
    fn a_pods_configuration_is_not_the_commands_own() {
        use crate::berth::args::Cli;
        use clap::Parser;
        let words = ["berth", "--config", "own.toml", "upgrade", "a/b", "--config-file", "web:/etc/web/a=b"];
        let parsed = Cli::try_parse_from(words).unwrap();
        assert!(format!("{parsed:?}").contains("own.toml"));
    }

    #[test]
    fn patches() {
        let web = || "web".parse::<ContainerName>().unwrap();
        let args = PatchArgs {
            images: vec![parse_image("web=a.example/b:2").unwrap()],
            env: vec![parse_env("web:A=1").unwrap(), parse_env("log:B=2").unwrap()],
            unset_env: Vec::new(),
            config_files: ["web:/etc/web/a.conf=x", "web:/etc/web/b=y=z"]
                .map(|text| parse_config(text).unwrap())
                .to_vec(),
        };
        let echo = |path: &Path| Ok(path.display().to_string().into_bytes());
        let patch = args.patch(echo).unwrap();
        assert_eq!((patch.containers[0].name.as_str(), patch.containers[1].name.as_str()), ("log", "web"));
        assert_eq!(patch.containers[1].image.as_deref(), Some("a.example/b:2"));
        let config = &patch.containers[1].config;
        let files: Vec<_> = config.iter().map(|folder| (folder.path.as_str(), &folder.files[0])).collect();
        let file = |name: &str, content: &str| v1::ConfigFile {
            name: name.to_owned(),
            content: content.into(),
            mode: 0,
        };
        assert_eq!(files, [("/etc/web", &file("a.conf", "x")), ("/etc/web", &file("b", "y=z"))]);
        let twice = PatchArgs { images: [args.images.clone(), args.images].concat(), ..PatchArgs::default() };
        assert!(twice.patch(echo).unwrap_err().to_string().contains("two images"));
        assert_eq!(PatchArgs::default().patch(echo).unwrap(), v1::PodPatch::default());
        let limits = LimitArgs { memory_max: Some(Bytes(7)), exclusive: Some(2), ..LimitArgs::default() };
        let patch = limits.patch().unwrap();
        assert_eq!(patch.limits.unwrap().memory_max_bytes, Some(7));
        assert!(patch.cpu.is_some());
        let nothing = LimitArgs { container: Some(web()), ..LimitArgs::default() };
        assert!(nothing.patch().unwrap_err().to_string().contains("nothing to change of container web"));
    }
}
