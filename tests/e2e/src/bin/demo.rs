//! `cargo xtask demo`: a control plane, a host, two databases in pods; what was ordered beside what the kernel shows.

use anyhow::{Context, Result, ensure};
use berth_e2e::{Fleet, FleetSpec, Kernel, PodProcess, demo};
use berth_lab::Suite;
use std::process::ExitCode;

/// Shown side by side: a label, what was ordered, and where the kernel says it.
type Row = (&'static str, String, String);

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("demo: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let fleet =
        Fleet::up(&FleetSpec { name: "default".to_owned(), guests: 1, joined: 1, suite: Suite::Trixie })?;
    println!("demo: submit redis and postgresql, each with CPUs of its own");
    demo::submit(&fleet)?;
    let [redis, postgresql] = demo::ask(&fleet)?;
    println!("demo: redis answers:      {redis}");
    println!("demo: postgresql answers: {postgresql}");
    let kernel = fleet.kernel(0);
    for (pod, program) in demo::PODS.into_iter().zip(demo::PROGRAMS) {
        show(&fleet, &kernel, pod, program)?;
    }
    println!("\ndemo: evict {}, by order", demo::PODS[0]);
    fleet.berth_ok(&["evict", demo::PODS[0], "--reason", "the demo is over", "--wait"])?;
    ensure!(kernel.program(demo::PROGRAMS[0]).is_err(), "redis still runs after its eviction");
    println!("demo: the kernel has no process of redis any more; postgresql runs on\n");
    print!("{}", fleet.berth_ok(&["get"])?);
    println!("\nLook around:");
    println!("  cargo xtask lab ssh                              a shell on the host; try there:");
    println!("    berthctl pods, berthctl cgroup demo/postgresql, berthctl topology, berthctl doctor");
    println!("  cargo xtask lab status                           what runs");
    println!("  cargo xtask lab down                             end it all");
    Ok(())
}

fn show(fleet: &Fleet, kernel: &Kernel, pod: &str, program: &str) -> Result<()> {
    let spec = &fleet.pod(pod)?["spec"];
    let process = kernel.program(program)?;
    let exclusive = &spec["cpu"]["exclusive"];
    let text = |value: &serde_json::Value| value.as_str().map(str::to_owned).context("an order without CPUs");
    println!("\n{pod}: process {} on {}", process.pid, kernel.guest().name());
    println!("  {:<28} {:<18} the kernel shows", "", "ordered");
    let rows: [Row; 6] = [
        ("Cpus_allowed_list", text(&exclusive["cpus"])?, kernel.status(process.pid, "Cpus_allowed_list")?),
        ("Mems_allowed_list", text(&exclusive["mems"])?, kernel.status(process.pid, "Mems_allowed_list")?),
        ("pod cpu.weight", "1000".to_owned(), control(kernel, &process, "cpu.weight")?),
        ("pod memory.max", (512 << 20).to_string(), control(kernel, &process, "memory.max")?),
        ("pod pids.max", "200".to_owned(), control(kernel, &process, "pids.max")?),
        ("open files", "10032".to_owned(), open_files(kernel, &process)?),
    ];
    for (label, ordered, shown) in rows {
        let mark = if ordered == shown { "" } else { "  <-- differs" };
        println!("  {label:<28} {ordered:<18} {shown}{mark}");
        ensure!(mark.is_empty(), "{label} of {pod} is {shown}, ordered was {ordered}");
    }
    Ok(())
}

fn control(kernel: &Kernel, process: &PodProcess, file: &str) -> Result<String> {
    kernel.control(process.pod_cgroup(), file)
}

fn open_files(kernel: &Kernel, process: &PodProcess) -> Result<String> {
    let limits = kernel.guest().get_file(&format!("/proc/{}/limits", process.pid))?;
    let line =
        limits.lines().find(|line| line.starts_with("Max open files")).context("the kernel lists it")?;
    Ok(line.split_whitespace().nth(3).unwrap_or_default().to_owned())
}
