//! Changes to a request: what a patch names replaces, what it does not stays. Done on the wire's types, because only
//! there a field can be absent; the result is parsed like any other request.

use berth_proto::v1;

/// Why a patch does not fit a request.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Misfit {
    /// It names a container that the pod does not have.
    #[error("patch.containers: the pod has no container {name:?} (it has: {known})")]
    NoContainer {
        /// The one named.
        name: String,
        /// Those that are there.
        known: String,
    },
    /// It changes nothing at all.
    #[error("patch: names nothing to change")]
    Empty,
}

/// Changes `request` as `patch` says.
///
/// # Errors
/// When it is empty, or names a container that is not there; `request` is of no use then.
pub(crate) fn apply(request: &mut v1::PodRequest, patch: &v1::PodPatch) -> Result<(), Misfit> {
    if *patch == v1::PodPatch::default() {
        return Err(Misfit::Empty);
    }
    let v1::PodPatch { containers, limits, memory_request_bytes, cpu } = patch.clone();
    for patch in containers {
        let known: Vec<&str> = request.containers.iter().map(|container| container.name.as_str()).collect();
        let known = known.join(" ");
        let found = request.containers.iter_mut().find(|container| container.name == patch.name);
        let container = found.ok_or(Misfit::NoContainer { name: patch.name.clone(), known })?;
        patch_container(container, patch);
    }
    if let Some(limits) = limits {
        merge_limits(request.limits.get_or_insert_default(), limits);
    }
    replace(&mut request.memory_request_bytes, memory_request_bytes);
    replace(&mut request.cpu, cpu);
    Ok(())
}

fn replace<T>(old: &mut Option<T>, new: Option<T>) {
    if new.is_some() {
        *old = new;
    }
}

/// Puts each of `new` in the place of the one with the same key, or at the end.
fn merge<T>(old: &mut Vec<T>, new: Vec<T>, key: impl Fn(&T) -> String) {
    for one in new {
        match old.iter_mut().find(|known| key(known) == key(&one)) {
            Some(known) => *known = one,
            None => old.push(one),
        }
    }
}

fn patch_container(container: &mut v1::ContainerRequest, patch: v1::ContainerPatch) {
    let v1::ContainerPatch {
        name: _,
        image,
        digest,
        env,
        unset_env,
        config,
        limits,
        exclusive_cpus,
        ulimits,
    } = patch;
    if let Some(image) = image.filter(|image| *image != container.image) {
        // What was pinned was another image.
        container.digest = None;
        container.image = image;
    }
    replace(&mut container.digest, digest);
    container.env.retain(|known| !unset_env.contains(&known.name));
    merge(&mut container.env, env, |one| one.name.clone());
    merge_config(&mut container.config, config);
    if let Some(limits) = limits {
        merge_limits(container.limits.get_or_insert_default(), limits);
    }
    replace(&mut container.exclusive_cpus, exclusive_cpus);
    merge(&mut container.ulimits, ulimits, |one| one.rlimit.clone());
}

fn merge_config(old: &mut Vec<v1::ConfigFolder>, new: Vec<v1::ConfigFolder>) {
    for folder in new {
        match old.iter_mut().find(|known| known.path == folder.path) {
            Some(known) => folder.files.into_iter().for_each(|file| merge_file(&mut known.files, file)),
            None => old.push(folder),
        }
    }
}

/// Where no mode is given, it stays.
fn merge_file(files: &mut Vec<v1::ConfigFile>, file: v1::ConfigFile) {
    match files.iter_mut().find(|known| known.name == file.name) {
        Some(known) if file.mode == 0 => known.content = file.content,
        Some(known) => *known = file,
        None => files.push(file),
    }
}

fn merge_limits(old: &mut v1::Limits, new: v1::Limits) {
    let v1::Limits {
        cpu_weight,
        cpu_max,
        memory_min_bytes,
        memory_low_bytes,
        memory_high_bytes,
        memory_max_bytes,
        swap_max_bytes,
        pids_max,
        io,
        hugetlb,
    } = new;
    replace(&mut old.cpu_weight, cpu_weight);
    replace(&mut old.cpu_max, cpu_max);
    replace(&mut old.memory_min_bytes, memory_min_bytes);
    replace(&mut old.memory_low_bytes, memory_low_bytes);
    replace(&mut old.memory_high_bytes, memory_high_bytes);
    replace(&mut old.memory_max_bytes, memory_max_bytes);
    replace(&mut old.swap_max_bytes, swap_max_bytes);
    replace(&mut old.pids_max, pids_max);
    merge(&mut old.io, io, |one| one.mount_point.clone());
    merge(&mut old.hugetlb, hugetlb, |one| one.page_size_bytes.to_string());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn env(name: &str, value: &str) -> v1::EnvVar {
        v1::EnvVar { name: name.to_owned(), value: value.to_owned() }
    }

    fn request() -> v1::PodRequest {
        v1::PodRequest {
            containers: vec![v1::ContainerRequest {
                name: "web".to_owned(),
                image: "registry.example/web:1".to_owned(),
                digest: Some("sha256:old".to_owned()),
                env: vec![env("A", "1"), env("B", "2")],
                ..v1::ContainerRequest::default()
            }],
            limits: Some(v1::Limits { pids_max: Some(7), swap_max_bytes: Some(1), ..v1::Limits::default() }),
            ..v1::PodRequest::default()
        }
    }

    fn web(patch: v1::ContainerPatch) -> v1::PodPatch {
        let containers = vec![v1::ContainerPatch { name: "web".to_owned(), ..patch }];
        v1::PodPatch { containers, ..v1::PodPatch::default() }
    }

    #[test]
    fn what_is_named_replaces_and_the_rest_stays() {
        let mut changed = request();
        let patch = web(v1::ContainerPatch {
            image: Some("registry.example/web:2".to_owned()),
            env: vec![env("B", "3"), env("C", "4")],
            unset_env: vec!["A".to_owned()],
            ..v1::ContainerPatch::default()
        });
        apply(&mut changed, &patch).unwrap();
        let container = &changed.containers[0];
        assert_eq!((container.image.as_str(), &container.digest), ("registry.example/web:2", &None));
        assert_eq!(container.env, [env("B", "3"), env("C", "4")]);
        let limits = v1::Limits { pids_max: Some(9), ..v1::Limits::default() };
        apply(&mut changed, &v1::PodPatch { limits: Some(limits), ..v1::PodPatch::default() }).unwrap();
        let limits = changed.limits.unwrap();
        assert_eq!((limits.pids_max, limits.swap_max_bytes), (Some(9), Some(1)));
    }

    #[test]
    fn files_are_replaced_by_folder_and_name() {
        let file = |name: &str, content: &str, mode: u32| v1::ConfigFile {
            name: name.to_owned(),
            content: content.into(),
            mode,
        };
        let folder =
            |path: &str, files: Vec<v1::ConfigFile>| v1::ConfigFolder { path: path.to_owned(), files };
        let mut changed = request();
        changed.containers[0].config = vec![folder("/a", vec![file("x", "1", 0o400), file("y", "1", 0o400)])];
        let patch = web(v1::ContainerPatch {
            config: vec![
                folder("/a", vec![file("x", "2", 0)]),
                folder("/b", vec![file("x", "3", 0)]),
                folder("/a", vec![file("y", "4", 0o500)]),
                folder("/a", vec![file("z", "5", 0)]),
            ],
            ..v1::ContainerPatch::default()
        });
        apply(&mut changed, &patch).unwrap();
        let a = vec![file("x", "2", 0o400), file("y", "4", 0o500), file("z", "5", 0)];
        assert_eq!(changed.containers[0].config, [folder("/a", a), folder("/b", vec![file("x", "3", 0)])]);
    }

    #[test]
    fn a_digest_stays_with_its_image() {
        let mut changed = request();
        let same = Some("registry.example/web:1".to_owned());
        apply(&mut changed, &web(v1::ContainerPatch { image: same, ..v1::ContainerPatch::default() }))
            .unwrap();
        assert_eq!(changed, request());
    }

    #[test]
    fn misfits() {
        let other = v1::ContainerPatch { name: "db".to_owned(), ..v1::ContainerPatch::default() };
        let patch = v1::PodPatch { containers: vec![other], ..v1::PodPatch::default() };
        let said = apply(&mut request(), &patch).unwrap_err().to_string();
        assert_eq!(said, "patch.containers: the pod has no container \"db\" (it has: web)");
        assert_eq!(apply(&mut request(), &v1::PodPatch::default()), Err(Misfit::Empty));
    }
}
