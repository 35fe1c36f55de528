//! What builders refuse, and the sums of their memory.

use super::*;
use crate::memory::device_bytes;
use tourbillon_shared::position::ShapeError;

fn builder() -> EngineBuilder {
    Engine::builder()
}

fn figure(builder: EngineBuilder) -> &'static str {
    match builder.backend(Backend::Cpu).build() {
        Err(EngineError::Geometry(error)) => error.figure,
        other => panic!("{other:?}"),
    }
}

#[test]
fn bad_figures_are_named_before_anything_starts() {
    assert_eq!(figure(builder().shards(0)), "shards");
    assert_eq!(figure(builder().shards(SHARDS_MAX + 1)), "shards");
    assert_eq!(figure(builder().lanes(0)), "lanes");
    assert_eq!(figure(builder().lanes(LANES_MAX + 1)), "lanes");
    assert_eq!(figure(builder().actors_per_shard(0)), "actors_per_shard");
    assert_eq!(figure(builder().actors_per_shard(u32::MAX)), "actors_per_shard");
    assert_eq!(figure(builder().cpu_threads(0)), "cpu_threads");
    assert_eq!(figure(builder().batch_limit(0)), "batch_limit");
    assert_eq!(figure(builder().cpu_threads(9)), "cpu_threads");
    assert_eq!(figure(builder().first_lap(0)), "first_lap");
    assert_eq!(figure(builder().arena_bytes((1 << 30) + 1)), "arena_bytes");
    let gpu = GpuGeometry { gates: 4, warps_per_block: 4, blocks: Some(4) };
    assert_eq!(figure(builder().geometry(gpu)), "blocks");
    assert_eq!(figure(builder().geometry(GpuGeometry { gates: u32::MAX, ..gpu })), "gates");
}

#[test]
fn bad_ring_capacities_are_refused() {
    for (capacity, expected) in [
        (0, ShapeError::NotPowerOfTwo { capacity: 0 }),
        (1000, ShapeError::NotPowerOfTwo { capacity: 1000 }),
        (8, ShapeError::OutOfRange { capacity: 8 }),
    ] {
        for backend in [Backend::Cpu, Backend::Auto, Backend::Cuda] {
            match builder().ring_capacity(capacity).backend(backend).build() {
                Err(EngineError::RingCapacity(error)) => assert_eq!(error, expected),
                other => panic!("{other:?}"),
            }
        }
    }
}

#[test]
fn bad_outbox_capacities_are_refused() {
    for slots in [1, 2, 16, 33, 1 << 17, u32::MAX] {
        for backend in [Backend::Cpu, Backend::Auto] {
            match builder().outbox_capacity(slots).backend(backend).build() {
                Err(EngineError::OutboxCapacity { slots: refused }) => assert_eq!(refused, slots),
                other => panic!("{other:?}"),
            }
        }
    }
    for slots in [0, 32, 1 << 16] {
        let geometry = builder().outbox_capacity(slots).cpu_geometry().unwrap();
        assert_eq!(1 << geometry.outbox_log2, slots.max(1));
    }
}

#[test]
fn the_default_of_a_large_gpu_fits_its_aim() {
    let geometry = builder().gpu_geometry(132).unwrap();
    assert_eq!((geometry.blocks, geometry.gates, geometry.shards), (132, 4, 256));
    assert_eq!(geometry.landing_bytes, 1 << 20);
    let bytes = device_bytes(&geometry) - (256 << 20);
    assert!(bytes > GPU_MEMORY_DEFAULT / 4 * 3 && bytes < GPU_MEMORY_DEFAULT + (1 << 20), "{bytes}");
    assert!(builder().gpu_geometry(2).is_ok() && builder().gpu_geometry(8).is_ok());
    assert!(builder().gpu_geometry(BLOCKS_MAX).is_ok());
}

#[test]
fn the_sum_is_the_sum() {
    let geometry = builder().cpu_geometry().unwrap();
    let sum: u64 = memory_sum(&geometry, RingShape::new(1024).unwrap(), ARENA_BYTES_DEFAULT)
        .iter()
        .filter(|(name, _)| !name.ends_with("(host)"))
        .map(|(_, bytes)| bytes)
        .sum();
    assert_eq!(sum, device_bytes(&geometry));
    assert!(sum <= CPU_MEMORY_DEFAULT + (17 << 20), "16 shards have a landing buffer each");
    let planned = builder().planned_memory(None).unwrap();
    assert_eq!(planned, memory_sum(&geometry, RingShape::new(1024).unwrap(), ARENA_BYTES_DEFAULT));
    let none = builder().arena_bytes(0).planned_memory(None).unwrap();
    let of = |sum: &[(&str, u64)], part: &str| sum.iter().find(|(name, _)| *name == part).map(|(_, bytes)| *bytes);
    let closed = builder().outbox_capacity(0).planned_memory(None).unwrap();
    for part in ["outbox rings (host)", "notices of running handlers"] {
        assert_eq!(of(&closed, part), Some(0));
    }
    assert_eq!(of(&planned, "outbox rings (host)"), Some(16 * 64 * u64::from(OUTBOX_CAPACITY_DEFAULT)));
    assert_eq!((of(&none, "landing buffers"), of(&none, "arenas (host)")), (Some(0), Some(0)));
    assert_eq!(of(&planned, "arenas (host)"), Some(16 * 2 * u64::from(ARENA_BYTES_DEFAULT)));
}

#[test]
fn pools_are_part_of_the_sum() {
    let of = |builder: &EngineBuilder| {
        let sum = builder.planned_memory(None).unwrap();
        sum.iter().find(|(name, _)| *name == "pools of collections").map(|(_, bytes)| *bytes).unwrap()
    };
    // None of the shipped system's actors has collections.
    assert_eq!(of(&builder()), 0);
    let bytes = of(&builder().shards(4).pool_bytes_per_shard(1 << 20));
    assert!(bytes > 4 * ((1 << 20) - 1024) && bytes <= (4 << 20) + (64 << 10), "{bytes}");
    let mut pooled = builder();
    pooled.image.has_pools = true;
    let geometry = pooled.cpu_geometry().unwrap();
    assert_eq!(geometry.pool_pages, 948);
    assert_eq!(geometry.published_pages, 0);
    let mut publishing = pooled.clone();
    publishing.image.has_blocks = true;
    assert_eq!(publishing.cpu_geometry().unwrap().published_pages, 948);
    let more =
        |builder: &EngineBuilder| builder.planned_memory(None).unwrap().iter().map(|(_, bytes)| bytes).sum::<u64>();
    assert!(more(&publishing) > more(&pooled));
    assert_eq!(publishing.pool_bytes_per_shard(0).cpu_geometry().unwrap().published_pages, 0);
    assert_eq!(pooled.pool_bytes_per_shard(0).cpu_geometry().unwrap().pool_pages, 0);
    for bytes in [1, 767, POOL_BYTES_MAX + 1, u64::MAX] {
        match builder().pool_bytes_per_shard(bytes).cpu_geometry() {
            Err(EngineError::PoolBytes { bytes: refused, .. }) => assert_eq!(refused, bytes),
            other => panic!("{other:?}"),
        }
    }
    for bytes in [768, POOL_BYTES_MAX] {
        assert!(builder().pool_bytes_per_shard(bytes).cpu_geometry().unwrap().pool_pages > 0);
    }
}

#[test]
fn collections_in_collections_and_a_store_exclude_each_other() {
    use crate::store::MemoryStore;
    use tourbillon_device::{Context, Handler, NoError, Plain, PoolMap, PoolVec, State, actor, system};

    /// A shelf of rows.
    #[repr(C)]
    #[derive(Clone, Copy, State)]
    struct Shelf {
        names: PoolVec<u64>,
        rows: PoolMap<u64, PoolVec<u64>>,
        filler: u32,
    }

    #[repr(C)]
    #[derive(Clone, Copy, Plain)]
    struct Count {}

    impl Handler<Count> for Shelf {
        type Reply = u64;
        fn handle(&mut self, _message: &Count, _context: &mut Context) -> Result<u64, NoError> {
            Ok((self.names.len() + self.rows.len()).into())
        }
    }

    actor!(Shelf { kind: 900, pools: true, error: NoError, messages: { #[outlined] 0: Count } });
    system! { struct Shelves = [Shelf]; }

    let with_store = |builder: EngineBuilder| builder.backend(Backend::Cpu).store(Arc::new(MemoryStore::default()));
    let shelves = || crate::Engine::builder_for(Shelves::image());
    let error = with_store(shelves()).build().map(drop).unwrap_err();
    assert!(matches!(error, EngineError::StoreWithNestedCollections { actor: "Shelf", field: "rows" }), "{error}");
    assert!(error.to_string().contains("leave `store` out"), "{error}");
    assert!(shelves().backend(Backend::Cpu).build().is_ok());
    assert!(with_store(builder()).build().is_ok());
}

#[test]
fn more_than_the_memory_is_refused_with_both_figures() {
    let error = builder().backend(Backend::Cpu).shards(512).actors_per_shard(1 << 24).build().unwrap_err();
    let EngineError::TooLittleMemory { needed, free } = error else { panic!("{error}") };
    assert!(needed > 1 << 39 && needed > free);
}

#[test]
fn backends_have_names() {
    for name in ["auto", "cuda", "cpu"] {
        assert_eq!(name.parse::<Backend>().unwrap().to_string(), name);
    }
    let error = "gpu".parse::<Backend>().unwrap_err().to_string();
    assert!(error.contains("gpu") && error.contains("cuda"), "{error}");
    #[cfg(feature = "simt")]
    for name in ["simt:4:1", "simt:32:77:hostile"] {
        assert_eq!(name.parse::<Backend>().unwrap().to_string(), name);
    }
}
