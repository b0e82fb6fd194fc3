//! What cgroups are held to: planned from the order, told to systemd, written where systemd models nothing, read back.

use super::error::{chain, permanent, transient};
use super::identity::{ROOT_SLICE, scope_path, slice_path};
use super::kernel::KernelRoots;
use super::systemd::Systemd;
use super::{Ordered, RuntimeError};
use crate::crash_point::Deed;
use berth_cgroup::{
    BlockDevices, Capabilities, Cgroup, CgroupError, CgroupPath, ControlWrite, Room, RuntimeResources,
    UnitProperties, apply, make_room, plan_change, plan_former, plan_writes, property_change, read_back,
    shortage, unit_properties,
};
use berth_model::{Applied, Bytes, ContainerSpec, CpuSet, Limits, MemSet};
use berth_plan::Controls;
use k8s_cri::v1::LinuxContainerResources;
use std::path::Path;

/// Controllers that limits need. systemd enables those it knows where a unit needs them; `hugetlb` it does not know.
const CONTROLLERS: [&str; 6] = ["cpu", "cpuset", "io", "memory", "hugetlb", "pids"];

/// One cgroup and what is ordered for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Target {
    path: String,
    limits: Limits,
    /// What was ordered before, or would have been: what only this has is put back to the kernel's default.
    former: Limits,
    /// CPUs and memory nodes; none for the slice of all pods, each of which has its own.
    on: Option<(CpuSet, MemSet)>,
}

impl Target {
    /// The pod's slice. Its CPU weight is that of the application's class where the order names none.
    pub(super) fn pod(ordered: &Ordered) -> Self {
        let spec = &ordered.spec;
        let weight = spec.limits.cpu_weight.or(Some(spec.class.cpu_weight()));
        Self {
            path: text(&slice_path(&ordered.pod)),
            limits: Limits { cpu_weight: weight, ..spec.limits.clone() },
            former: ordered.former.pod.clone(),
            on: Some((ordered.cpus.clone(), ordered.mems.clone())),
        }
    }

    /// The slice of all pods.
    fn all(limits: Limits) -> Self {
        Self { path: ROOT_SLICE.to_owned(), limits, former: Limits::default(), on: None }
    }

    /// A container's scope. It has the pod's CPUs where the order gives it none of its own, and the pod's memory nodes.
    pub(super) fn container(ordered: &Ordered, spec: &ContainerSpec, id: &str) -> Self {
        Self {
            path: text(&scope_path(&ordered.pod, id)),
            limits: spec.limits.clone(),
            former: ordered.former.containers.get(&spec.name).cloned().unwrap_or_default(),
            on: Some((spec.cpus.clone().unwrap_or_else(|| ordered.cpus.clone()), ordered.mems.clone())),
        }
    }

    fn ordered(&self) -> berth_cgroup::Ordered<'_> {
        let (cpus, mems) = self.on.as_ref().map(|(cpus, mems)| (cpus, mems)).unzip();
        berth_cgroup::Ordered { limits: &self.limits, cpus, mems }
    }

    fn what(&self, doing: &str) -> String {
        format!("{doing} of cgroup /{}", self.path)
    }

    /// What is written and told, on this host.
    pub(super) fn plan(&self, roots: &KernelRoots) -> Result<Plan, RuntimeError> {
        let capabilities = capabilities(roots)?;
        let devices = self.devices(roots)?;
        let hopeless =
            |error: berth_cgroup::PlanError| permanent(self.what("plan the limits"), chain(&error));
        let writes = plan_writes(&self.ordered(), &capabilities, &devices).map_err(hopeless)?;
        let writes = plan_change(&plan_former(&self.former, &capabilities, &devices), &writes);
        let UnitProperties { properties, bare } =
            unit_properties(&self.ordered(), &writes, &devices).map_err(hopeless)?;
        Ok(Plan { writes, properties: property_change(&self.former, &properties), bare })
    }

    /// The disks beneath mount points. To look at all of them takes longer than everything else, and only limits on I/O
    /// name any.
    fn devices(&self, roots: &KernelRoots) -> Result<BlockDevices, RuntimeError> {
        if self.limits.io.is_empty() && self.former.io.is_empty() {
            return Ok(BlockDevices::default());
        }
        BlockDevices::read(&roots.proc.join("1/mountinfo"), &roots.sys)
            .map_err(|error| transient(self.what("plan the limits"), chain(&error)))
    }

    /// The same, as a container that is about to be made is told through CRI.
    pub(super) fn cri_resources(&self, roots: &KernelRoots) -> Result<LinuxContainerResources, RuntimeError> {
        let plan = self.plan(roots)?;
        let told = RuntimeResources::new(&self.ordered(), &plan.writes);
        Ok(LinuxContainerResources {
            cpuset_cpus: told.cpuset_cpus,
            cpuset_mems: told.cpuset_mems,
            unified: told.unified.into_iter().collect(),
            ..LinuxContainerResources::default()
        })
    }

    /// What was ordered and what the kernel says; none when there is no such cgroup.
    pub(super) fn read(&self, roots: &KernelRoots) -> Result<Option<Applied>, RuntimeError> {
        let Some(cgroup) = self.open(roots)? else {
            return Ok(None);
        };
        Ok(Some(read_back(&cgroup, &self.plan(roots)?.writes)))
    }

    /// Writes what systemd does not hold, and whatever else does not read back as ordered; then reads all again.
    pub(super) fn settle(&self, roots: &KernelRoots, plan: &Plan) -> Result<(), RuntimeError> {
        let what = || self.what("write the limits");
        let cgroup = self.open(roots)?.ok_or_else(|| transient(what(), "it does not exist"))?;
        self.enable_weights(roots, plan)?;
        apply(&cgroup, &plan.bare).map_err(|error| transient(what(), chain(&error)))?;
        let missing = drifted(&read_back(&cgroup, &plan.writes));
        let missing: Vec<ControlWrite> =
            plan.writes.iter().filter(|write| missing.contains(&write.name())).cloned().collect();
        apply(&cgroup, &missing).map_err(|error| transient(what(), chain(&error)))?;
        let applied = read_back(&cgroup, &plan.writes);
        match applied.controls.iter().find(|control| !control.holds()) {
            None => Ok(()),
            Some(control) => {
                let why =
                    format!("{} was ordered {:?} and is {:?}", control.file, control.ordered, control.read);
                Err(transient(what(), why))
            }
        }
    }

    /// Makes room before `memory.max` is set below what is in use; what does not fit is told, and nothing is changed.
    pub(super) fn make_room(&self, roots: &KernelRoots) -> Result<(), RuntimeError> {
        let what = || self.what("shrink the memory");
        let (Some(cgroup), Some(Bytes(max_bytes))) = (self.open(roots)?, self.limits.memory.max) else {
            return Ok(());
        };
        match make_room(&cgroup, max_bytes).map_err(|error| transient(what(), chain(&error)))? {
            Room::Fits => Ok(()),
            Room::Lacks { in_use_bytes } => Err(transient(
                what(),
                format!("{in_use_bytes} bytes are in use and cannot be reclaimed, {max_bytes} were ordered"),
            )),
        }
    }

    /// Whether the limits leave what is in use.
    fn check_room(&self, roots: &KernelRoots) -> Result<(), RuntimeError> {
        let what = || self.what("hold all pods to what is left");
        let Some(cgroup) = self.open(roots)? else { return Ok(()) };
        let counted = cgroup.statistics().map_err(|error| transient(what(), chain(&error)))?;
        shortage(&counted, &self.limits).map_or(Ok(()), |short| Err(transient(what(), short)))
    }

    /// A weight acts only on devices that io.cost looks after, and nobody else switches that on.
    fn enable_weights(&self, roots: &KernelRoots, plan: &Plan) -> Result<(), RuntimeError> {
        let weights = plan.writes.iter().filter(|write| write.file == "io.weight");
        for device in weights.filter_map(|write| write.key) {
            let enabled = roots.cgroups().enable_io_cost(device);
            enabled.map_err(|error| transient(self.what("enable the weights"), chain(&error)))?;
        }
        Ok(())
    }

    fn open(&self, roots: &KernelRoots) -> Result<Option<Cgroup>, RuntimeError> {
        let what = || self.what("look at the limits");
        let path: CgroupPath = self.path.parse().map_err(|error| permanent(what(), error))?;
        match roots.cgroups().open(&path) {
            Ok(cgroup) => Ok(Some(cgroup)),
            Err(CgroupError::Gone { .. }) => Ok(None),
            Err(error) => Err(transient(what(), chain(&error))),
        }
    }
}

/// What is written to files, and what of it is told to systemd.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Plan {
    pub(super) writes: Vec<ControlWrite>,
    pub(super) properties: Vec<berth_cgroup::UnitProperty>,
    pub(super) bare: Vec<ControlWrite>,
}

/// Whether a cgroup holds what was ordered.
pub(super) fn verdict(applied: Option<&Applied>) -> Controls {
    let Some(applied) = applied else {
        return Controls::Absent;
    };
    let drifted = drifted(applied);
    if drifted.is_empty() { Controls::InOrder } else { Controls::Drifted(drifted) }
}

fn drifted(applied: &Applied) -> Vec<String> {
    applied.controls.iter().filter(|control| !control.holds()).map(|control| control.file.clone()).collect()
}

/// Makes the slice that holds every pod's, and enables the controllers on the way to the pods' slices.
pub(super) async fn ensure_root(systemd: &Systemd, roots: &KernelRoots) -> Result<(), RuntimeError> {
    systemd.start(ROOT_SLICE).await?;
    let what = || format!("enable controllers for {ROOT_SLICE}");
    let path: CgroupPath = ROOT_SLICE.parse().map_err(|error| permanent(what(), error))?;
    let inside = path.join("pod").map_err(|error| permanent(what(), error))?;
    let wanted = offered(roots)?;
    let wanted: Vec<&str> = wanted.iter().map(String::as_str).collect();
    roots.cgroups().enable_controllers(&inside, &wanted).map_err(|error| transient(what(), chain(&error)))
}

/// Has systemd and the kernel hold a unit that is there to what is ordered.
pub(super) async fn change(
    systemd: &Systemd,
    roots: &KernelRoots,
    unit: &str,
    target: Target,
) -> Result<(), RuntimeError> {
    let planned = target.clone();
    let plan =
        roots.blocking(move |roots| planned.make_room(roots).and_then(|()| planned.plan(roots))).await?;
    systemd.set_properties(unit, &plan.properties).await?;
    roots.blocking(move |roots| Deed::WriteControls.between_now(|| target.settle(roots, &plan))).await
}

/// Which files of the slice of all pods say something else than these limits; the slice itself where it is not there.
pub(super) async fn drift_of_all(roots: &KernelRoots, limits: Limits) -> Result<Vec<String>, RuntimeError> {
    let target = Target::all(limits);
    let applied = roots.blocking(move |roots| target.read(roots)).await?;
    Ok(match verdict(applied.as_ref()) {
        Controls::InOrder => Vec::new(),
        Controls::Drifted(files) => files,
        Controls::Absent => vec![ROOT_SLICE.to_owned()],
    })
}

/// Holds the slice of all pods to these limits, which no pod was ordered: nothing is written where they use more.
pub(super) async fn hold_all(
    systemd: &Systemd,
    roots: &KernelRoots,
    limits: Limits,
) -> Result<(), RuntimeError> {
    ensure_root(systemd, roots).await?;
    let target = Target::all(limits);
    let looking = target.clone();
    roots.blocking(move |roots| looking.check_room(roots)).await?;
    change(systemd, roots, ROOT_SLICE, target).await
}

/// Enables, for the containers of a pod, what systemd does not know of.
pub(super) fn enable_inside(roots: &KernelRoots, target: &Target) -> Result<(), RuntimeError> {
    let what = || target.what("enable controllers inside");
    let path: CgroupPath = target.path.parse().map_err(|error| permanent(what(), error))?;
    let inside = path.join("container").map_err(|error| permanent(what(), error))?;
    let wanted = offered(roots)?;
    let wanted: Vec<&str> = wanted.iter().map(String::as_str).collect();
    roots.cgroups().enable_controllers(&inside, &wanted).map_err(|error| transient(what(), chain(&error)))
}

/// Those of our controllers that this kernel has.
fn offered(roots: &KernelRoots) -> Result<Vec<String>, RuntimeError> {
    let file = roots.cgroup.join("cgroup.controllers");
    let text = std::fs::read_to_string(&file)
        .map_err(|error| permanent(format!("read {}", file.display()), error))?;
    Ok(text.split_whitespace().filter(|name| CONTROLLERS.contains(name)).map(str::to_owned).collect())
}

/// What a pod's slice can be held to, as the slice above it shows.
fn capabilities(roots: &KernelRoots) -> Result<Capabilities, RuntimeError> {
    let what = "look at what cgroups can be held to";
    let path: CgroupPath = ROOT_SLICE.parse().map_err(|error| permanent(what, error))?;
    let read = roots.cgroups().open(&path).and_then(|cgroup| Capabilities::read(&cgroup));
    read.map_err(|error| transient(what, chain(&error)))
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}
