//! Holds the runtime of the host that this is started on to the cases that the fake runtime is held to.
//!
//! Needs root, containerd set up for Berth, and `berth-ipam` as CNI's plugin; the agent must not run. What the cases end
//! is all that runs in `berth.slice`, and a power cut ends every task of containerd: this is for virtual hosts.

use anyhow::{Context, ensure};
use berthd::runtime::cases::{CASES, Clerk, Difference, Host, Player, spec};
use clap::Parser;
use std::path::PathBuf;
use std::time::Instant;

/// Plays every case on this host, and says where it goes another way than the table has it.
#[derive(Parser)]
struct Arguments {
    /// An image with a shell, that the host can pull.
    #[arg(long)]
    image: String,
    /// An empty folder.
    #[arg(long)]
    state: PathBuf,
    /// The pause image's archive.
    #[arg(long, default_value = "/usr/share/berth/pause.tar")]
    pause_image: PathBuf,
    /// Only cases whose name has this in it.
    #[arg(default_value = "")]
    filter: String,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let image = arguments.image.parse().context("read --image")?;
    let clerk = Clerk::new(&arguments.state, spec(&image)).await;
    let host = Host::take_over(&arguments.state, &arguments.pause_image, &clerk).await;
    println!("runtime: {}", host.version().await);
    let cases: Vec<_> = CASES.iter().filter(|case| case.name.contains(&arguments.filter)).collect();
    ensure!(!cases.is_empty(), "no case has {:?} in its name", arguments.filter);
    let mut player = Box::pin(Player::new(&host, &clerk)).await;
    let mut wrong = 0;
    for case in &cases {
        let begun = Instant::now();
        wrong += report(case.name, begun, &Box::pin(player.play(case)).await);
    }
    wrong += report("nothing is left", Instant::now(), &Box::pin(player.leave()).await);
    ensure!(wrong == 0, "{wrong} differences in {} cases", cases.len());
    println!("all {} cases are as claimed", cases.len());
    Ok(())
}

/// Says what came of a case; answers how much of it was not as claimed.
fn report(name: &str, begun: Instant, differences: &[Difference]) -> usize {
    let word = if differences.is_empty() { "as claimed" } else { "OTHERWISE" };
    println!("case {name:<88} {word}, {:.0} s", begun.elapsed().as_secs_f64());
    for difference in differences {
        println!("  {}", difference.act);
        println!("    claimed: {}", difference.expected);
        println!("    found:   {}", difference.found);
    }
    differences.len()
}
