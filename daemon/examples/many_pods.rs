//! Measures what a node's agent costs with many pods, over a runtime in memory; prints figures as JSON.

use anyhow::{Context, Result};
use berthd::many_pods::{Plan, measure};
use berthd::pod::LOOKS;
use clap::Parser;
use serde_json::json;
use std::path::PathBuf;
use std::time::Duration;

/// The budgets: all pods in a second, 30 MiB and 60 KiB a pod, a hundredth of a core.
const ADOPT_S: f64 = 1.0;
const BASE_KIB: f64 = 30.0 * 1024.0;
const POD_KIB: f64 = 60.0;
const IDLE_PERCENT: f64 = 1.0;

#[derive(Parser)]
struct Arguments {
    /// An empty folder.
    #[arg(long)]
    state: PathBuf,
    /// How many pods.
    #[arg(long, default_value_t = 500)]
    pods: u16,
    /// How long the runtime takes to say how one pod is, milliseconds.
    #[arg(long, default_value_t = 20)]
    look_ms: u64,
    /// For how long nothing is ordered, seconds.
    #[arg(long, default_value_t = 60)]
    idle_s: u64,
}

#[tokio::main]
async fn main() -> Result<()> {
    let Arguments { state, pods, look_ms, idle_s } = Arguments::parse();
    std::fs::create_dir_all(&state).with_context(|| format!("make {}", state.display()))?;
    let plan = Plan { pods, look: Duration::from_millis(look_ms), idle: Duration::from_secs(idle_s) };
    let figures = Box::pin(measure(&state, plan)).await?;
    let (count, look_s) = (f64::from(pods), plan.look.as_secs_f64());
    #[allow(clippy::cast_precision_loss)]
    let (empty, full, effects) = (figures.empty_kib as f64, figures.full_kib as f64, figures.effects as f64);
    let figure = |metric: String, value: f64, unit: &str, floor: Option<f64>, most: f64| {
        let over = |most: f64| floor.filter(|floor| *floor > 0.0).map(|floor| most / floor);
        json!({
            "metric": metric, "value": value, "unit": unit, "floor": floor,
            "ratio": over(value).unwrap_or(value / most), "budget": over(most).unwrap_or(1.0),
        })
    };
    #[allow(clippy::cast_precision_loss)]
    let looks = Some(count * look_s / LOOKS as f64);
    let all = [
        figure(format!("adopt {pods}; floor: the looks"), figures.adopted.as_secs_f64(), "s", looks, ADOPT_S),
        figure("memory; floor: no pods".to_owned(), full, "KiB", Some(empty), BASE_KIB + POD_KIB * count),
        figure("idle CPU".to_owned(), figures.idle_percent, "%", None, IDLE_PERCENT),
        // None is the most; a ratio to nothing says nothing, so half of one effect stands for it.
        figure("effects of adopting".to_owned(), effects, "", None, 0.5),
    ];
    println!("{}", serde_json::to_string(&all)?);
    Ok(())
}
