use super::*;
use proptest::prelude::*;

fn id(number: usize) -> PodId {
    PodId::new("shop", format!("p{number}")).unwrap()
}

fn plan(max_unavailable: u32, members: &[Member]) -> Plan {
    Plan {
        max_unavailable,
        state: RolloutState::Running,
        direction: Direction::Forward,
        forgiven: 0,
        members: members.iter().cloned().enumerate().map(|(number, member)| (id(number), member)).collect(),
    }
}

fn ordered() -> Member {
    Member::Ordered { seq: Seq(1), direction: Direction::Forward }
}

fn back() -> Member {
    Member::RolledBack("it died".to_owned())
}

/// One letter a pod: Available, Broken, bUsy, unFit; a dash is gone.
fn seen(letters: &str) -> BTreeMap<PodId, Seen> {
    let one = |(number, letter)| {
        let why = String::new();
        let seen = match letter {
            'A' => Seen::Available,
            'B' => Seen::Broken(why),
            'U' => Seen::Busy(why),
            'F' => Seen::Unfit(why),
            _ => return None,
        };
        Some((id(number), seen))
    };
    letters.chars().enumerate().filter_map(one).collect()
}

fn check(plan: &Plan, letters: &str, expected: &str) {
    let names = |pods: &[PodId]| pods.iter().map(PodId::name).collect::<Vec<_>>().join(" ");
    let said = match next(plan, &seen(letters)) {
        Next::Order(pods) => format!("order {}", names(&pods)),
        Next::Skip(pods) => {
            format!("skip {}", names(&pods.into_iter().map(|(pod, _)| pod).collect::<Vec<_>>()))
        }
        Next::Wait(_) => "wait".to_owned(),
        Next::Pause(_) => "pause".to_owned(),
        Next::Done => "done".to_owned(),
    };
    assert_eq!(said, expected, "{letters} {plan:?}");
}

#[test]
fn what_is_next() {
    use Member::{Done, Undone, Waiting};
    let (w, o, d) = (|| Waiting, ordered, || Done);
    check(&plan(1, &[]), "", "done");
    check(&plan(1, &[w(), w(), w()]), "AAA", "order p0");
    check(&plan(2, &[w(), w(), w()]), "AAA", "order p0 p1");
    check(&plan(9, &[w(), w(), w()]), "AAA", "order p0 p1 p2");
    check(&plan(1, &[o(), w()]), "UA", "wait");
    // What the outcome of an order has not said yet is not believed, however it looks.
    check(&plan(1, &[o(), w()]), "AA", "wait");
    check(&plan(2, &[o(), w(), w()]), "UAA", "order p1");
    check(&plan(1, &[d(), w()]), "AA", "order p1");
    // A pod that was upgraded and does not do its work keeps the next from being touched.
    check(&plan(1, &[d(), w()]), "BA", "wait");
    check(&plan(1, &[d(), w()]), "UA", "wait");
    check(&plan(2, &[d(), w()]), "UA", "order p1");
    check(&plan(1, &[d(), w()]), "FA", "order p1");
    // What is broken anyway goes first.
    check(&plan(1, &[w(), w()]), "AB", "order p1");
    check(&plan(2, &[w(), w(), w()]), "ABA", "order p1 p0");
    check(&plan(1, &[w(), w(), w()]), "BBA", "order p0");
    check(&plan(1, &[w(), w()]), "UA", "wait");
    check(&plan(1, &[w(), w()]), "FA", "skip p0");
    check(&plan(1, &[w(), w()]), "-A", "skip p0");
    check(&plan(1, &[o(), w()]), "-A", "wait");
    check(&plan(1, &[d(), d()]), "AA", "done");
    check(&plan(1, &[d(), Undone, Member::Skipped(String::new())]), "AAA", "done");
    check(&plan(1, &[back(), w()]), "AA", "order p1");
    check(&plan(1, &[back(), back(), w()]), "AAA", "pause");
    check(&Plan { forgiven: 1, ..plan(1, &[back(), back(), w()]) }, "AAA", "order p2");
    check(&Plan { state: RolloutState::Paused, ..plan(1, &[w()]) }, "A", "wait");
    check(&Plan { state: RolloutState::Done, ..plan(1, &[w()]) }, "A", "done");
}

#[test]
fn turning_round() {
    let mut plan = plan(1, &[Member::Done, ordered(), Member::Waiting, back()]);
    plan.undo();
    let members: Vec<Member> = plan.members.values().cloned().collect();
    assert_eq!(members, [Member::Waiting, ordered(), Member::Undone, back()]);
    assert_eq!(plan.after_done(Direction::Forward), Member::Waiting);
    assert_eq!(plan.after_done(Direction::Undo), Member::Undone);
}

/// What befalls a fleet between two looks.
#[derive(Debug, Clone)]
enum Event {
    /// An order under way ends well, or not.
    Ends(usize, bool),
    /// A pod breaks, or is well again, by itself.
    Breaks(usize),
    Heals(usize),
    Leaves(usize),
    Resume,
    Undo,
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        6 => (any::<usize>(), prop::bool::weighted(0.8)).prop_map(|(pod, well)| Event::Ends(pod, well)),
        1 => any::<usize>().prop_map(Event::Breaks),
        2 => any::<usize>().prop_map(Event::Heals),
        1 => any::<usize>().prop_map(Event::Leaves),
        1 => Just(Event::Resume),
        1 => Just(Event::Undo),
    ]
}

struct Fleet {
    plan: Plan,
    seen: BTreeMap<PodId, Seen>,
}

impl Fleet {
    fn unavailable(&self) -> usize {
        let down = |pod: &&PodId| {
            matches!(self.plan.members[*pod], Member::Ordered { .. })
                || matches!(self.seen.get(*pod), Some(Seen::Broken(_) | Seen::Busy(_)))
        };
        self.plan.members.keys().filter(down).count()
    }

    fn befall(&mut self, event: &Event) {
        let pods: Vec<PodId> = self.plan.members.keys().cloned().collect();
        let pick = |number: usize| pods[number % pods.len()].clone();
        match event {
            Event::Ends(number, well) => {
                let under_way: Vec<(PodId, Direction)> = self
                    .plan
                    .members
                    .iter()
                    .filter_map(|(pod, member)| match member {
                        Member::Ordered { direction, .. } => Some((pod.clone(), *direction)),
                        _ => None,
                    })
                    .collect();
                let Some((pod, direction)) = under_way.get(number % under_way.len().max(1)) else { return };
                let member = if *well { self.plan.after_done(*direction) } else { back() };
                self.plan.members.insert(pod.clone(), member);
                self.seen.entry(pod.clone()).and_modify(|seen| *seen = Seen::Available);
            }
            Event::Breaks(number) => drop(self.seen.insert(pick(*number), Seen::Broken(String::new()))),
            Event::Heals(number) => drop(self.seen.insert(pick(*number), Seen::Available)),
            Event::Leaves(number) => drop(self.seen.remove(&pick(*number))),
            Event::Resume => {
                self.plan.forgiven = self.plan.rolled_back();
                if self.plan.state == RolloutState::Paused {
                    self.plan.state = RolloutState::Running;
                }
            }
            Event::Undo => self.plan.undo(),
        }
    }

    /// Does what is next until there is nothing, and checks each order.
    fn settle(&mut self) {
        loop {
            let before = self.unavailable();
            match next(&self.plan, &self.seen) {
                Next::Order(pods) => {
                    let healthy =
                        pods.iter().filter(|pod| self.seen.get(*pod) == Some(&Seen::Available)).count();
                    for pod in pods {
                        assert_eq!(self.plan.members[&pod], Member::Waiting);
                        let direction = self.plan.direction;
                        self.plan.members.insert(pod.clone(), Member::Ordered { seq: Seq(1), direction });
                        self.seen.insert(pod, Seen::Busy(String::new()));
                    }
                    let most = self.plan.max_unavailable as usize;
                    assert!(healthy == 0 || self.unavailable() <= most, "{before} -> {}", self.unavailable());
                    let ordered = |member: &&Member| matches!(member, Member::Ordered { .. });
                    assert!(self.plan.members.values().filter(ordered).count() <= most);
                }
                Next::Skip(pods) => {
                    for (pod, why) in pods {
                        self.plan.members.insert(pod, Member::Skipped(why));
                    }
                }
                Next::Wait(_) => return,
                Next::Pause(_) => self.plan.state = RolloutState::Paused,
                Next::Done => {
                    self.plan.state = RolloutState::Done;
                    return;
                }
            }
        }
    }
}

proptest! {
    #[test]
    fn never_more_than_so_many_are_unavailable(
        pods in 1usize..12,
        max_unavailable in 1u32..5,
        events in prop::collection::vec(event(), 0..60),
    ) {
        let all = vec![Member::Waiting; pods];
        let seen = (0..pods).map(|number| (id(number), Seen::Available)).collect();
        let mut fleet = Fleet { plan: plan(max_unavailable, &all), seen };
        fleet.settle();
        for event in &events {
            fleet.befall(event);
            fleet.settle();
        }
        // Everything ends if everything is answered and well.
        for _ in 0..4 * pods {
            (0..pods).for_each(|number| fleet.befall(&Event::Heals(number)));
            fleet.befall(&Event::Ends(0, true));
            fleet.befall(&Event::Resume);
            fleet.settle();
        }
        prop_assert_eq!(fleet.plan.state, RolloutState::Done);
    }
}
