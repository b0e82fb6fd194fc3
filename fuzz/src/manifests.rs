//! What a person hands to `berth apply`: YAML, up to the order that comes of it.

use crate::{orders, seeds};
use berth_cli::{Manifest, parse};
use berth_model::PodRequest;
use berth_proto::{Addressed, v1};

/// Parses manifests; what is accepted arrives as it was meant.
pub fn manifests(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    match parse(text) {
        Ok(manifests) => {
            assert!(!manifests.is_empty(), "a text without documents was accepted");
            let mut control = seeds::fleet();
            if let Err(why) = control.hear(seeds::hello()) {
                panic!("the seeds' node is not welcome: {why}");
            }
            manifests.into_iter().for_each(|manifest| apply(&mut control, manifest));
        }
        Err(errors) => {
            assert!(!errors.is_empty(), "a text was refused without a reason");
            assert!(errors.iter().all(|error| !error.to_string().is_empty()));
        }
    }
}

fn apply(control: &mut berth_control::Rehearsal, manifest: Manifest) {
    assert!(!manifest.title().is_empty());
    match manifest {
        Manifest::Pod(request) => submit(control, *request),
        // What of a pool makes no sense is for the control plane to say.
        Manifest::AddressPool(pool) => drop(control.put_pool(&pool)),
        Manifest::SharedCpus(_) => {}
    }
}

fn submit(control: &mut berth_control::Rehearsal, request: PodRequest) {
    let wire = v1::PodRequest::from(&request);
    let arrived = PodRequest::try_from(wire).unwrap_or_else(|error| panic!("{}", error.chain()));
    assert_eq!(arrived, request, "a manifest changed on its way");
    let pod = request.pod.clone();
    match control.submit(request) {
        Ok(()) => {
            for wire in control.open_orders() {
                let addressed =
                    Addressed::try_from(wire).unwrap_or_else(|error| panic!("{pod}: {}", error.chain()));
                orders::comes_back(&addressed);
            }
        }
        Err(why) => assert!(!why.is_empty(), "{pod} was refused without a reason"),
    }
}
