//! Progress of long work, for people: what is being done, and how long it took.

use std::time::Instant;

/// Says what begins, does it, and says how long it took.
pub(crate) fn step<T, E>(what: &str, work: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
    println!("lab: {what} …");
    let begun = Instant::now();
    let result = work();
    let seconds = begun.elapsed().as_secs_f64();
    match &result {
        Ok(_) => println!("lab: {what}: {seconds:.1} s"),
        Err(_) => println!("lab: {what}: failed after {seconds:.1} s"),
    }
    result
}
