//! The host's share of a message: frames, slots and clocks.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use tourbillon_device::arch::native::{load_chunk, store_chunk};
use tourbillon_shared::frame::slots_for;
use tourbillon_shared::frame::{FRAME_WORDS_MAX, PAYLOAD_BYTES_MAX, PAYLOAD_BYTES_OF_ONE_SLOT, decode_payload, encode};
use tourbillon_shared::header::{Flags, Header};
use tourbillon_shared::hlc;
use tourbillon_shared::partition;
use tourbillon_shared::position::RingShape;
use tourbillon_shared::ring::{Cells, read_slot, write_slot};
use tourbillon_shared::slot::{Chunk, DATA_WORDS_PER_SLOT, Slot};

/// Slots of the ring: it fits the first-level cache twice.
const CAPACITY: u32 = 256;

struct Memory(*mut Slot);

impl Cells for Memory {
    fn load(&self, index: u32, chunk: u32) -> Chunk {
        // SAFETY: the ring gives indices below its capacity and chunks below 4; the slots outlive the ring.
        unsafe { load_chunk(&raw const (*self.0.add(index as usize)).chunks[chunk as usize]) }
    }

    fn store(&self, index: u32, chunk: u32, value: Chunk) {
        // SAFETY: as above; one thread uses the memory.
        unsafe { store_chunk(&raw mut (*self.0.add(index as usize)).chunks[chunk as usize], value) }
    }
}

fn codec(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("codec");
    for bytes in [PAYLOAD_BYTES_OF_ONE_SLOT, PAYLOAD_BYTES_MAX] {
        let payload = vec![0x5a; bytes];
        let header = Header {
            key: 7,
            kind: 2,
            length: bytes as u16,
            flags: Flags::new(slots_for(0, bytes), 0),
            hlc: 1 << 40,
            ..Header::default()
        };
        let mut words = [0; FRAME_WORDS_MAX];
        group.throughput(Throughput::Bytes(bytes as u64));
        group.bench_function(format!("encode {bytes} B"), |bencher| {
            bencher.iter(|| encode(black_box(&header), black_box(&payload), &mut words));
        });
        let mut decoded = vec![0; bytes];
        group.bench_function(format!("decode {bytes} B"), |bencher| {
            bencher.iter(|| decode_payload(black_box(&header), black_box(&words), &mut decoded));
        });
    }
    group.finish();
}

fn ring(criterion: &mut Criterion) {
    let Ok(shape) = RingShape::new(CAPACITY) else { unreachable!("the capacity is a power of two in range") };
    let mut slots = vec![Slot::default(); CAPACITY as usize];
    let memory = Memory(slots.as_mut_ptr());
    let mut group = criterion.benchmark_group("ring");
    group.throughput(Throughput::Elements(1));
    let mut position = 0u64;
    group.bench_function("write and read a slot", |bencher| {
        bencher.iter(|| {
            let data = [position as u32; DATA_WORDS_PER_SLOT];
            write_slot(&memory, shape, position, black_box(&data));
            let read = read_slot(&memory, shape, position);
            position += 1;
            read
        });
    });
    group.bench_function("look at an empty slot", |bencher| {
        bencher.iter(|| read_slot(&memory, shape, black_box(position + u64::from(CAPACITY))));
    });
    group.finish();
}

fn clocks(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("clock");
    let mut last = 1 << 40;
    group.bench_function("tick", |bencher| {
        bencher.iter(|| {
            last = hlc::tick(black_box(last), black_box(1 << 40));
            last
        });
    });
    group.bench_function("update", |bencher| {
        bencher.iter(|| {
            last = hlc::update(black_box(last), black_box(last + 5), black_box(1 << 40));
            last
        });
    });
    group.bench_function("key to partition", |bencher| {
        bencher.iter(|| partition::partition_of(partition::hash(black_box(2), black_box(last))));
    });
    group.finish();
}

criterion_group!(micro, codec, ring, clocks);
criterion_main!(micro);
