//! All peers, in the order in which they are measured.

use hdrhistogram::Histogram;

use crate::channels::{Crossbeam, Rtrb};
use crate::on_kameo::Kameo;
use crate::on_ractor::Ractor;
use crate::plan::{Measured, Plan};
use crate::ring_buffer::Disruptor;
use crate::threads::Direct;
use crate::{engine, on_actix, on_tokio, threads};

/// One way to ask an actor.
#[derive(Clone, Copy, Debug)]
pub struct Peer {
    /// Its name in results.
    pub id: &'static str,
    /// Its name in tables.
    pub name: &'static str,
    /// Threads of its round trips, and how they wait.
    pub threads: &'static str,
    /// The package that it is made of, besides this project's.
    pub package: Option<&'static str>,
    /// Whether it needs a GPU.
    pub on_gpu: bool,
    /// Measures round trips.
    pub round_trips: fn(&Plan) -> Measured<Histogram<u64>>,
    /// Measures the rate.
    pub rate: fn(&Plan) -> Measured<f64>,
}

/// A peer between two threads.
macro_rules! between_threads {
    ($id:literal, $name:literal, $threads:literal, $package:expr, $end:ty) => {
        Peer {
            id: $id,
            name: $name,
            threads: $threads,
            package: $package,
            on_gpu: false,
            round_trips: |plan| threads::round_trips(plan, <$end>::connect),
            rate: |plan| threads::rate(plan, <$end>::connect),
        }
    };
}

/// All of them.
pub const PEERS: [Peer; 11] = [
    between_threads!("call", "a function call: what measuring costs", "1", None, Direct),
    between_threads!("rtrb", "rtrb rings", "2, spinning", Some("rtrb"), Rtrb),
    between_threads!("disruptor", "disruptors", "2, spinning", Some("disruptor"), Disruptor),
    between_threads!(
        "crossbeam_spin",
        "crossbeam channels, spinning",
        "2, spinning",
        Some("crossbeam-channel"),
        Crossbeam<true>
    ),
    between_threads!(
        "crossbeam",
        "crossbeam channels, blocking",
        "2, spinning briefly, then parking",
        Some("crossbeam-channel"),
        Crossbeam<false>
    ),
    Peer {
        id: "kameo",
        name: "kameo `ask`",
        threads: "2 of tokio, parking",
        package: Some("kameo"),
        on_gpu: false,
        round_trips: on_tokio::round_trips::<Kameo>,
        rate: on_tokio::rate::<Kameo>,
    },
    Peer {
        id: "ractor",
        name: "ractor `call`",
        threads: "2 of tokio, parking",
        package: Some("ractor"),
        on_gpu: false,
        round_trips: on_tokio::round_trips::<Ractor>,
        rate: on_tokio::rate::<Ractor>,
    },
    Peer {
        id: "actix_same",
        name: "actix `send`, same thread",
        threads: "1 of tokio, parking",
        package: Some("actix"),
        on_gpu: false,
        round_trips: on_actix::round_trips::<false>,
        rate: on_actix::rate::<false>,
    },
    Peer {
        id: "actix",
        name: "actix `send`, other thread",
        threads: "2 of tokio, parking",
        package: Some("actix"),
        on_gpu: false,
        round_trips: on_actix::round_trips::<true>,
        rate: on_actix::rate::<true>,
    },
    Peer {
        id: "engine_cpu",
        name: "Tourbillon on CPU threads",
        threads: "2: client spinning, engine spinning, then parking",
        package: None,
        on_gpu: false,
        round_trips: engine::round_trips::<false>,
        rate: engine::rate::<false>,
    },
    Peer {
        id: "engine_gpu",
        name: "Tourbillon on the GPU",
        threads: "1 and the GPU, spinning",
        package: None,
        on_gpu: true,
        round_trips: engine::round_trips::<true>,
        rate: engine::rate::<true>,
    },
];
