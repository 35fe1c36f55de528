//! Trees of supervisors under random failures and orders, against a model of the strategies on the host.

use std::time::Duration;

use tourbillon::actors::supervisor::{
    Children, StartChild, StartTree, StopChild, StopTree, Strategy, Summarize, Supervise,
};
use tourbillon::{CallError, Child, Client, Engine};
use tourbillon_crew::worker::{Job, Look};
use tourbillon_crew::{Supervisor, Worker};
use tourbillon_tests::bench::{client, mixed};
use tourbillon_tests::on_every_backend;

/// How long a test waits for the last letter.
const QUIET_TIME_MAX: Duration = Duration::from_secs(60);
/// A window that no test outlasts: failures are never forgotten.
const HOUR_US: u64 = 3_600_000_000;
const BOSSES: usize = 4;
const WORKERS: usize = 8;
/// Key of the first supervisor, far from the workers'.
const FIRST_BOSS: u64 = 1_000_000;

/// An actor of the tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Node {
    Boss(usize),
    Worker(usize),
}

impl Node {
    fn child(self) -> Child {
        match self {
            Self::Boss(boss) => Supervisor::child(FIRST_BOSS + boss as u64),
            Self::Worker(worker) => Child::of::<Worker>(worker as u64),
        }
    }
}

/// What a supervisor is to know.
#[derive(Clone, Debug)]
struct Boss {
    strategy: Strategy,
    intensity: u32,
    /// Failures since it began to count.
    noted: u32,
    /// Its children in the order of their start, and whether they run; those that do not are started with the tree.
    children: Vec<(Node, bool)>,
    parent: Option<usize>,
    is_stopped: bool,
}

/// What is to be on the device.
#[derive(Clone, Debug)]
struct Model {
    bosses: Vec<Boss>,
    /// Jobs that each worker has done since it began; nothing of one that is stopped.
    done: [Option<u64>; WORKERS],
    /// The supervisor of each worker that runs as a child.
    parents: [Option<usize>; WORKERS],
}

impl Model {
    fn begin_anew(&mut self, node: Node) {
        match node {
            Node::Worker(worker) => self.done[worker] = Some(0),
            Node::Boss(boss) => {
                self.bosses[boss].noted = 0;
                for at in 0..self.bosses[boss].children.len() {
                    let (child, runs) = self.bosses[boss].children[at];
                    if runs {
                        self.begin_anew(child);
                    }
                }
                self.start_all(boss);
            }
        }
    }

    fn start_all(&mut self, boss: usize) {
        self.bosses[boss].noted = 0;
        let mut at = 0;
        while at < self.bosses[boss].children.len() {
            let (child, runs) = self.bosses[boss].children[at];
            if !runs && self.is_taken(child) {
                // Somebody else has started it meanwhile.
                self.bosses[boss].children.remove(at);
                continue;
            }
            if !runs {
                self.start(boss, child);
                self.bosses[boss].children[at].1 = true;
            }
            at += 1;
        }
    }

    /// Whether an actor cannot become a child: it is one, or has children.
    fn is_taken(&self, node: Node) -> bool {
        match node {
            Node::Worker(worker) => self.parents[worker].is_some(),
            Node::Boss(boss) => {
                let boss = &self.bosses[boss];
                boss.parent.is_some() || boss.children.iter().any(|(_, runs)| *runs)
            }
        }
    }

    /// A child that does not run is started.
    fn start(&mut self, parent: usize, node: Node) {
        match node {
            Node::Worker(worker) => {
                self.done[worker].get_or_insert(0);
                self.parents[worker] = Some(parent);
            }
            Node::Boss(boss) => {
                (self.bosses[boss].parent, self.bosses[boss].is_stopped) = (Some(parent), false);
                self.start_all(boss);
            }
        }
    }

    fn stop(&mut self, node: Node) {
        match node {
            Node::Worker(worker) => (self.done[worker], self.parents[worker]) = (None, None),
            Node::Boss(boss) => {
                self.stop_all(boss);
                (self.bosses[boss].parent, self.bosses[boss].is_stopped) = (None, true);
            }
        }
    }

    fn stop_all(&mut self, boss: usize) {
        for at in 0..self.bosses[boss].children.len() {
            let (child, runs) = self.bosses[boss].children[at];
            if runs {
                self.bosses[boss].children[at].1 = false;
                self.stop(child);
            }
        }
    }

    fn place(&self, boss: usize, node: Node) -> Option<usize> {
        self.bosses[boss].children.iter().position(|(child, _)| *child == node)
    }

    /// A child of `boss` has failed.
    fn fail(&mut self, boss: usize, node: Node) {
        if let Node::Worker(worker) = node {
            self.done[worker] = Some(0);
        }
        self.bosses[boss].noted += 1;
        if self.bosses[boss].noted > self.bosses[boss].intensity {
            self.stop_all(boss);
            self.bosses[boss].noted = 0;
            if let Some(parent) = self.bosses[boss].parent {
                self.fail(parent, Node::Boss(boss));
            }
            return;
        }
        let at = self.place(boss, node).unwrap();
        for (other, (child, runs)) in self.bosses[boss].children.clone().into_iter().enumerate() {
            let is_meant = match self.bosses[boss].strategy {
                Strategy::OneForOne => other == at,
                Strategy::OneForAll => true,
                Strategy::RestForOne => other >= at,
            };
            if is_meant && runs {
                self.begin_anew(child);
            }
        }
    }
}

/// A model, and the engine that is to be like it.
struct Trial<'e> {
    model: Model,
    engine: &'e Engine,
    client: Client,
    seed: u64,
}

impl<'e> Trial<'e> {
    /// A tree that follows from the seed.
    fn new(engine: &'e Engine, seed: u64) -> Self {
        let mut trial = Self {
            model: Model { bosses: Vec::new(), done: [Some(0); WORKERS], parents: [None; WORKERS] },
            engine,
            client: client(engine),
            seed,
        };
        for boss in 0..BOSSES {
            let strategy = [Strategy::OneForOne, Strategy::OneForAll, Strategy::RestForOne][trial.below(3)];
            let intensity = 1 + trial.below(3) as u32;
            trial.client.call(FIRST_BOSS + boss as u64, Supervise::new(strategy, intensity, HOUR_US)).unwrap();
            trial.model.bosses.push(Boss {
                strategy,
                intensity,
                noted: 0,
                children: Vec::new(),
                parent: None,
                is_stopped: false,
            });
        }
        // From the top down; workers between them.
        let mut nodes: Vec<Node> = (1..BOSSES).map(Node::Boss).collect();
        for worker in 0..WORKERS {
            let at = trial.below(nodes.len() + 1);
            nodes.insert(at, Node::Worker(worker));
        }
        for node in nodes {
            let above = match node {
                Node::Boss(boss) => boss,
                Node::Worker(_) => BOSSES,
            };
            // A supervisor becomes a child before it has any.
            let parent = trial.below(above);
            let has_children = matches!(node, Node::Boss(boss) if !trial.model.bosses[boss].children.is_empty());
            if !has_children {
                trial.start_child(parent, node);
                // One that has been asked to start another would have a child before it is one.
                engine.quiesce(QUIET_TIME_MAX).unwrap();
            }
        }
        trial
    }

    fn below(&mut self, bound: usize) -> usize {
        self.seed = mixed(self.seed);
        (self.seed % bound as u64) as usize
    }

    fn start_child(&mut self, boss: usize, node: Node) {
        let answer = self.client.call(FIRST_BOSS + boss as u64, StartChild(node.child()));
        if self.model.bosses[boss].is_stopped {
            assert_eq!(answer, Err(CallError::Stopped));
            return;
        }
        match self.model.place(boss, node) {
            Some(at) if self.model.bosses[boss].children[at].1 => {
                assert!(matches!(answer, Err(CallError::Handler(_))), "{answer:?}");
                return;
            }
            Some(at) => drop(self.model.bosses[boss].children.remove(at)),
            None => {}
        }
        assert_eq!(answer, Ok(()));
        if !self.model.is_taken(node) {
            self.model.start(boss, node);
            self.model.bosses[boss].children.push((node, true));
        }
    }

    fn stop_child(&mut self, boss: usize, node: Node) {
        let answer = self.client.call(FIRST_BOSS + boss as u64, StopChild(node.child()));
        if self.model.bosses[boss].is_stopped {
            assert_eq!(answer, Err(CallError::Stopped));
        } else if let Some(at) = self.model.place(boss, node) {
            assert_eq!(answer, Ok(()));
            let (_, runs) = self.model.bosses[boss].children.remove(at);
            if runs {
                self.model.stop(node);
            }
        } else {
            assert!(matches!(answer, Err(CallError::Handler(_))), "{answer:?}");
        }
    }

    fn work(&mut self, worker: usize, job: Job) {
        let answer = self.client.call(worker as u64, job);
        match (self.model.done[worker], job) {
            (None, _) => assert_eq!(answer, Err(CallError::Stopped)),
            (Some(done), Job::WELL) => {
                assert_eq!(answer, Ok(done + 1));
                self.model.done[worker] = Some(done + 1);
            }
            (Some(_), _) => {
                assert!(matches!(answer, Err(CallError::Panicked { .. })), "{answer:?}");
                if let Some(boss) = self.model.parents[worker] {
                    self.model.fail(boss, Node::Worker(worker));
                }
            }
        }
    }

    /// One random step; what it was.
    fn step(&mut self) -> String {
        let (what, worker, boss) = (self.below(20), self.below(WORKERS), self.below(BOSSES));
        let node = if self.below(3) == 0 && boss + 1 < BOSSES {
            Node::Boss(boss + 1 + self.below(BOSSES - boss - 1))
        } else {
            Node::Worker(worker)
        };
        match what {
            0..8 => self.work(worker, Job::WELL),
            8..14 => self.work(worker, Job::PANIC),
            14..16 => self.start_child(boss, node),
            16 => self.stop_child(boss, node),
            17 | 18 => {
                let is_start = what == 18;
                let key = FIRST_BOSS + boss as u64;
                let answer =
                    if is_start { self.client.call(key, StartTree {}) } else { self.client.call(key, StopTree {}) };
                if self.model.bosses[boss].is_stopped {
                    assert_eq!(answer, Err(CallError::Stopped));
                } else if is_start {
                    self.model.start_all(boss);
                } else {
                    self.model.stop_all(boss);
                }
            }
            _ => self.engine.relaunch().unwrap(),
        }
        format!("{what} at worker {worker}, supervisor {boss}, {node:?}")
    }

    /// One random step that nobody waits for.
    fn rush(&mut self) {
        let (what, worker, boss) = (self.below(20), self.below(WORKERS) as u64, self.below(BOSSES));
        let node = if self.below(3) == 0 && boss + 1 < BOSSES {
            Node::Boss(boss + 1 + self.below(BOSSES - boss - 1))
        } else {
            Node::Worker(worker as usize)
        };
        let key = FIRST_BOSS + boss as u64;
        match what {
            0..4 => self.client.send(worker, Job::WELL).unwrap(),
            4..10 => self.client.send(worker, Job::PANIC).unwrap(),
            10..13 => self.client.send(key, StartChild(node.child())).unwrap(),
            13..15 => self.client.send(key, StopChild(node.child())).unwrap(),
            15 => self.client.send(key, StopTree {}).unwrap(),
            16..19 => self.client.send(key, StartTree {}).unwrap(),
            _ => self.engine.relaunch().unwrap(),
        }
    }

    /// Slots for answers that are free, in all mailboxes.
    fn free(&self) -> u64 {
        self.engine.quiesce(QUIET_TIME_MAX).unwrap();
        self.engine.pause().unwrap();
        let free = self.engine.mailboxes().unwrap().iter().map(|mailbox| mailbox.answer_room).sum();
        self.engine.resume().unwrap();
        free
    }

    /// What is on the device is what the model says.
    fn check(&mut self, about: &str) {
        self.engine.quiesce(QUIET_TIME_MAX).unwrap();
        for worker in 0..WORKERS {
            let done = match self.client.call(worker as u64, Look {}) {
                Ok(looks) => Some(looks.done),
                Err(CallError::Stopped) => None,
                Err(error) => panic!("{about}: worker {worker}: {error}"),
            };
            assert_eq!(done, self.model.done[worker], "{about}: worker {worker}: {:#?}", self.model);
        }
        for (number, boss) in self.model.bosses.iter().enumerate() {
            let key = FIRST_BOSS + number as u64;
            let listing = self.client.call(key, Children { from: 0 });
            if boss.is_stopped {
                assert_eq!(listing, Err(CallError::Stopped), "{about}: supervisor {number}");
                continue;
            }
            let listing = listing.unwrap();
            let expected: Vec<_> = boss.children.iter().map(|(node, _)| node.child()).collect();
            assert_eq!(listing.children[..listing.listed as usize], expected, "{about}: supervisor {number}");
            let summary = self.client.call(key, Summarize {}).unwrap();
            let running = boss.children.iter().filter(|(_, runs)| *runs).count();
            assert_eq!((summary.running as usize, summary.is_settled), (running, 1), "{about}: supervisor {number}");
        }
    }
}

on_every_backend! {
    /// Every step leaves the actors as the strategies say.
    fn trees_are_what_their_strategies_make_of_them(bench: &Bench) {
        for seed in 0..bench.scale(20, 4) {
            let builder = bench.builder_for(tourbillon_crew::image()).actors_per_shard(256);
            let engine = builder.build().unwrap();
            let mut trial = Trial::new(&engine, mixed(seed ^ 0x5eed));
            trial.check("at the beginning");
            for step in 0..bench.scale(80, 25) {
                let what = trial.step();
                trial.check(&format!("seed {seed}, step {step}: {what}"));
            }
        }
    }
}

on_every_backend! {
    /// Whatever comes while orders are under way, in the end all that is wanted runs, and each child tells of its next failure.
    fn trees_come_to_rest_whatever_crosses(bench: &Bench) {
        for seed in 0..bench.scale(20, 2) {
            let builder = bench.builder_for(tourbillon_crew::image()).actors_per_shard(256);
            let engine = builder.build().unwrap();
            let free = engine.mailboxes().unwrap().iter().map(|mailbox| mailbox.answer_room).sum::<u64>();
            let mut trial = Trial::new(&engine, mixed(seed ^ 0xc2055));
            for round in 0..bench.scale(6, 3) {
                for _ in 0..40 {
                    trial.rush();
                }
                // When this is answered, all of what was sent has been taken.
                let _summary = trial.client.call(FIRST_BOSS, Summarize {});
                engine.quiesce(QUIET_TIME_MAX).unwrap();
                let mut running = 0;
                for boss in 0..BOSSES as u64 {
                    match trial.client.call(FIRST_BOSS + boss, StartTree {}) {
                        Ok(()) | Err(CallError::Stopped) => engine.quiesce(QUIET_TIME_MAX).unwrap(),
                        Err(error) => panic!("seed {seed}, round {round}: {error}"),
                    };
                }
                for boss in 0..BOSSES as u64 {
                    if let Ok(summary) = trial.client.call(FIRST_BOSS + boss, Summarize {}) {
                        assert_eq!((summary.running, summary.is_settled), (summary.children, 1), "seed {seed}, round {round}");
                        running += summary.running;
                    }
                }
                assert_eq!(free - trial.free(), u64::from(running), "seed {seed}, round {round}: each has room for one failure");
            }
        }
    }
}
