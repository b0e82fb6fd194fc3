//! The real runtime does what the fake one, on which the agent's tests lean, claims that it does.

use crate::fleet;
use berth_e2e::hold_to_cases;

#[test]
fn the_runtime_is_as_the_agents_tests_have_it() {
    let guest = fleet().kernel(0).guest().clone();
    hold_to_cases(&guest).expect("every case goes as claimed");
    fleet().wait_ready(&guest).expect("the agent is back");
}
