//! Runs in a virtual host: makes pods by the runtime's bare calls, one after the other, and prints how long each took to
//! start, nanoseconds. The image, and how many.

use anyhow::{Context, Result};
use berth_e2e::bench::time_raw_pod;

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let (image, count) = arguments.next().zip(arguments.next()).context("IMAGE and COUNT are missing")?;
    let count: u32 = count.parse().with_context(|| format!("{count:?} is no count"))?;
    for number in 0..count {
        println!("{}", time_raw_pod(&format!("raw-{number}"), &image)?);
    }
    Ok(())
}
