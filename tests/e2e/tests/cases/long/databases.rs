//! A real redis and a real postgresql, on different memory nodes, answering over the network.

use crate::{discard, fleet};
use berth_e2e::demo;

#[test]
fn databases_answer_on_different_memory_nodes() {
    demo::submit(fleet()).expect("run the databases");
    demo::ask(fleet()).expect("the databases answer");
    let kernel = fleet().kernel(0);
    let node = |program| {
        let process = kernel.program(program).expect("find the database");
        kernel.status(process.pid, "Mems_allowed_list").expect("read the status")
    };
    let nodes = demo::PROGRAMS.map(node);
    assert_ne!(nodes[0], nodes[1], "each has a memory node of its own");
    for pod in demo::PODS {
        discard(pod);
    }
}
