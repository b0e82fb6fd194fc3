//! Orders: what they say, whether they were to be accepted, and what the books say once they are, and once they have ended.

use super::*;

impl World {
    pub(super) fn order(&mut self, verb: u8, spoiled: Spoiled) -> Judged {
        let known = self.record.clone();
        let runs = matches!(verb, 0 | 6);
        let incarnation = match (&known, runs) {
            (Some(record), false) => record.incarnation.0,
            _ => {
                self.incarnation += 1;
                self.incarnation
            }
        };
        self.seq += 1;
        self.serial += 1;
        let (verb, generation) = self.verb(verb, known.as_ref());
        let (old_term, old_incarnation, old_seq) =
            (spoiled == Spoiled::OldTerm, spoiled == Spoiled::OldIncarnation, spoiled == Spoiled::OldSeq);
        let order = Order {
            id: OrderId::new(format!("{:026}", self.serial)).unwrap(),
            term: if old_term { Term(4) } else { self.term },
            reason: String::new(),
            deadline_ms: 60_000,
            target: Target::Pod(PodOrder {
                pod: pod(),
                incarnation: Incarnation(if old_incarnation {
                    incarnation.saturating_sub(1)
                } else {
                    incarnation
                }),
                generation,
                seq: Seq(if old_seq { self.seq.saturating_sub(2) } else { self.seq }),
                verb,
            }),
        };
        let before = self.record.clone();
        let accepted = self.give(&order)?;
        if accepted {
            self.note_accepted(&order);
        }
        match (accepted, spoiled, &before) {
            (true, Spoiled::OldTerm, _) => Err("an order of an old term was accepted".to_owned()),
            (true, Spoiled::OldIncarnation, Some(known)) if incarnation <= known.incarnation.0 => {
                Err("an order of an old incarnation was accepted".to_owned())
            }
            (true, Spoiled::OldSeq, Some(known)) if self.seq.saturating_sub(2) <= known.seq.0 => {
                Err("an order of an old seq was accepted".to_owned())
            }
            (false, _, _) if self.record != before => Err("a refused order changed something".to_owned()),
            _ => Ok(()),
        }
    }

    /// Verbs by number: 0 Run, 1 Stop, 2 Start, 3 Evict and keep, 4 Evict and release, 5 Release, 6 Run with kept disks,
    /// 7 Restart, 8 Restart and rebuild, 9 Upgrade to another image, 10 to another environment, 11 to one that ends at
    /// once, 12 Resize, 13 Resize to what the kernel does not keep, 14 Resize
    /// to one limit in place of another.
    pub(super) fn verb(&self, number: u8, known: Option<&PodRecord>) -> (PodVerb, Generation) {
        let kept = known.and_then(|record| record.kept.first()).map(|kept| kept.incarnation);
        let generation = known.map_or(Generation(1), |record| record.generation);
        let charter = known.and_then(|record| record.charter.as_ref());
        let fresh = || spec(self.policy, self.seed);
        let mut now = charter.map_or_else(fresh, |charter| charter.spec.clone());
        let serial = self.serial;
        let upgrade = |spec: PodSpec| PodVerb::Upgrade { spec: Box::new(spec), settle_ms: 5 };
        let verb = match number {
            0 => PodVerb::Run { spec: Box::new(fresh()), disk: Disk::Fresh },
            1 => PodVerb::Stop { grace_ms: 10 },
            2 => PodVerb::Start,
            3 => PodVerb::Evict { grace_ms: 10, disposition: EvictDisposition::Keep },
            4 => PodVerb::Evict { grace_ms: 10, disposition: EvictDisposition::Release },
            5 => PodVerb::Release,
            6 => PodVerb::Run {
                spec: Box::new(fresh()),
                disk: Disk::Kept { incarnation: kept.unwrap_or(Incarnation(0)) },
            },
            7 => PodVerb::Restart { disk: DiskPolicy::Reuse, grace_ms: 10 },
            8 => PodVerb::Restart { disk: DiskPolicy::Rebuild, grace_ms: 10 },
            9 => {
                now.containers[0].image = format!("registry.example/web:{serial}").parse().unwrap();
                upgrade(now)
            }
            10 | 11 => {
                let value = if number == 10 { serial.to_string() } else { BROKEN.to_owned() };
                let all = if serial.is_multiple_of(2) { 1 } else { now.containers.len() };
                now.containers[..all].iter_mut().for_each(|container| {
                    container.env = vec![EnvVar { name: "VERSION".to_owned(), value: value.clone() }];
                });
                upgrade(now)
            }
            12 | 13 => {
                now.limits.pids_max = Some(if number == 12 { serial } else { REFUSED_LIMIT });
                PodVerb::Resize { spec: Box::new(now) }
            }
            14 => {
                let memory = now.limits.memory.max.is_none().then_some(Bytes(serial));
                now.limits.pids_max = memory.is_none().then_some(serial);
                now.limits.memory.max = memory;
                PodVerb::Resize { spec: Box::new(now) }
            }
            _ => unreachable!("there is no such verb"),
        };
        let raises = matches!(verb, PodVerb::Upgrade { .. } | PodVerb::Resize { .. });
        (verb, if raises { Generation(generation.0 + 1) } else { generation })
    }

    /// The judge's books, when an order was accepted.
    pub(super) fn note_accepted(&mut self, order: &Order) {
        // Whatever was under way did not get there: what it made is nobody's.
        for key in std::mem::take(&mut self.books.provisional) {
            self.precious.remove(&key);
        }
        self.books.rebuilt.clear();
        let Target::Pod(target) = &order.target else { return };
        // Neither of these may end what was left living.
        self.books.abandoned &=
            matches!(target.verb, PodVerb::Start | PodVerb::Resize { .. } | PodVerb::Release);
        match &target.verb {
            PodVerb::Run { spec, .. } => {
                self.books.started.clear();
                self.starts_from_rest();
                self.books.committed = Some(*spec.clone());
                self.books.ended.clear();
                self.books.held = false;
            }
            PodVerb::Start => {
                self.wants_all();
                self.books.started.clear();
                if self.books.stopped {
                    self.starts_from_rest();
                }
                self.books.ended.clear();
                self.books.held = false;
            }
            PodVerb::Restart { disk, .. } => {
                self.wants_all();
                self.books.started.clear();
                if self.books.stopped {
                    self.starts_from_rest();
                }
                self.books.ended.clear();
                self.books.held = false;
                self.books.restarted_at_ms = self.now_ms;
                if *disk == DiskPolicy::Rebuild {
                    let all = self.books.committed.iter().flat_map(|spec| &spec.containers);
                    self.books.rebuilt = all.map(|spec| spec.name.clone()).collect();
                }
            }
            PodVerb::Upgrade { spec, .. } => {
                self.books.started.retain(|(name, _), made_by| {
                    spec.container(name).is_some_and(|ordered| same_making(made_by, ordered))
                });
                let differs = |spec: &&ContainerSpec| {
                    let newest = self.containers.values().filter(|c| c.name == spec.name);
                    newest.max_by_key(|c| c.attempt).is_none_or(|c| !same_making(&c.made_by, spec))
                };
                let replaced: Vec<_> = spec.containers.iter().filter(differs).cloned().collect();
                self.wants(&replaced);
            }
            PodVerb::Evict { .. } => self.books.held = false,
            PodVerb::Stop { .. } => (self.books.held, self.books.stopped) = (false, true),
            PodVerb::Resize { .. } | PodVerb::Release => {}
        }
    }

    /// Whatever has ended of these, or ends until their order has, is started again.
    fn wants(&mut self, containers: &[ContainerSpec]) {
        for spec in containers {
            self.books.ended.remove(&spec.name);
        }
        self.books.wanted.extend(containers.iter().map(|spec| spec.name.clone()));
    }

    /// What an Upgrade has replaced is to run as it was.
    fn wants_back(&mut self, upgrade: &PodSpec) {
        let differs = |old: &&ContainerSpec| {
            upgrade.container(&old.name).is_some_and(|ordered| !same_making(old, ordered))
        };
        let committed = self.books.committed.iter().flat_map(|old| &old.containers);
        let replaced: Vec<_> = committed.filter(differs).cloned().collect();
        self.wants(&replaced);
    }

    fn wants_all(&mut self) {
        let all = self.books.committed.as_ref().map(|spec| spec.containers.clone());
        self.wants(&all.unwrap_or_default());
    }

    /// A container is about to end by itself, unless it was sent a signal, or is what is left of an order that was abandoned.
    pub(super) fn note_own_end(&mut self, id: &str, code: i32) {
        let Some(container) = self.containers.get(id) else { return };
        let committed = self.books.committed.as_ref().and_then(|spec| spec.container(&container.name));
        let is_meant = committed.is_some_and(|spec| same_making(spec, &container.made_by));
        if self.books.signalled.contains(id) || self.books.abandoned && !is_meant {
            return;
        }
        let wanted = self.books.wanted.contains(&container.name);
        let end = OwnEnd { code, wanted };
        self.books.ended.insert(container.name.clone(), end);
    }

    /// The judge's books, and the ledger, when an order has ended or is taken back.
    pub(super) fn note_concluded(&mut self, before: &PodRecord, concluded: Concluded) -> Judged {
        if let Some(open) = concluded.record.open.as_ref().filter(|open| open.failure.is_some()) {
            for key in std::mem::take(&mut self.books.provisional) {
                self.precious.remove(&key);
            }
            if let PodVerb::Upgrade { spec, .. } = &open.verb {
                self.wants_back(spec);
            }
        }
        if let Some((id, outcome)) = concluded.ended {
            self.note_ended(before, &outcome)?;
            let entry = self.orders.get_mut(&id).ok_or("an unknown order ended")?;
            if entry.1.is_some() {
                return Err(format!("order {id} ended twice"));
            }
            entry.1 = Some(outcome);
        }
        self.record = Some(concluded.record);
        Ok(())
    }

    fn starts_from_rest(&mut self) {
        self.books.stopped = false;
        self.books.prepared.clear();
        self.books.lost.clear();
    }

    pub(super) fn kept_keys(&self) -> BTreeSet<String> {
        self.record.iter().flat_map(|record| &record.kept).map(|kept| kept.key.clone()).collect()
    }

    /// The judge's books, when an order has ended; `before` is the record until then.
    pub(super) fn note_ended(&mut self, before: &PodRecord, outcome: &Outcome) -> Judged {
        let Some(open) = &before.open else { return Ok(()) };
        let done = *outcome == Outcome::Done;
        let live = || self.containers.values().filter(|c| c.live);
        match &open.verb {
            PodVerb::Release | PodVerb::Evict { disposition: EvictDisposition::Release, .. }
                if done && !self.data.is_empty() =>
            {
                return Err("a release was called done, and a data disk is left".to_owned());
            }
            PodVerb::Evict { .. } if done && self.has_scratch() => {
                return Err("an eviction was called done, and scratch is left".to_owned());
            }
            PodVerb::Upgrade { spec, .. } if done => {
                if spec.containers.iter().any(is_broken) {
                    return Err("a broken upgrade was called done".to_owned());
                }
                self.books.committed = Some(*spec.clone());
                self.books.provisional.clear();
                let named = |key: &String| before.containers.values().any(|c| c.disk.as_ref() == Some(key));
                let kept = self.kept_keys();
                self.precious.retain(|key| named(key) || kept.contains(key));
            }
            PodVerb::Resize { spec } if done => {
                if spec.limits.pids_max == Some(REFUSED_LIMIT) && live().next().is_some() {
                    return Err("a resize was called done that the kernel did not keep".to_owned());
                }
                self.books.committed = Some(*spec.clone());
            }
            PodVerb::Restart { .. }
                if done && live().any(|c| c.started_at_ms <= self.books.restarted_at_ms) =>
            {
                return Err("a restart was called done around a container that it left as it was".to_owned());
            }
            _ => {}
        }
        // What runs when its order has ended is what is to run.
        let runs = live().map(|c| ((c.name.clone(), c.sandbox.clone()), c.made_by.clone()));
        let runs: Vec<_> = runs.collect();
        self.books.started.extend(runs);
        self.books.wanted.clear();
        self.books.rebuilt.clear();
        Ok(())
    }

    pub(super) fn redeliver(&mut self) -> Judged {
        let Some(order) = self.last.clone() else { return Ok(()) };
        let before = self.record.clone();
        match self.give(&order)? {
            true => Err("the same order was accepted twice".to_owned()),
            false if self.record != before => Err("the same order again changed something".to_owned()),
            false => Ok(()),
        }
    }

    /// Gives an order to admission; whether it was accepted.
    pub(super) fn give(&mut self, order: &Order) -> Result<bool, String> {
        let pods: BTreeMap<_, _> =
            self.record.iter().map(|record| (record.pod.clone(), record.clone())).collect();
        let known = self.orders.get(&order.id);
        let view = LedgerView {
            term: self.term,
            pods: &pods,
            pools: &BTreeMap::new(),
            offers: &BTreeMap::new(),
            fetches: &BTreeMap::new(),
            known: known.map(|(order, outcome)| Known { order, outcome: outcome.as_ref() }),
        };
        match admit(&view, &host(), order, self.now_ms) {
            Admission::Accept(accepted) => {
                let Change::Pod(record) = accepted.change else {
                    return Err("a pod's order changed no pod".to_owned());
                };
                self.record = Some(*record);
                self.rewritten.clear();
                self.orders.insert(order.id.clone(), (order.clone(), None));
                self.last = Some(order.clone());
                if let Some((_, outcome)) = accepted.superseded.and_then(|id| self.orders.get_mut(&id)) {
                    let by = order.id.clone();
                    *outcome = Some(Outcome::Failed(Failure::Superseded { by }));
                }
                Ok(true)
            }
            Admission::Already(_) | Admission::Refuse(_) => Ok(false),
        }
    }
}
