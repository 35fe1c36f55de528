//! What the kernel finds in memory at its first launch.

use bytemuck::Zeroable;
use tourbillon_shared::abi;
use tourbillon_shared::broadcast::Broadcasts;
use tourbillon_shared::control::Mode;
use tourbillon_shared::dead_letter::DeadLetterState;
use tourbillon_shared::geometry::{DeviceLayout, Geometry, KernelArguments, LaneAddresses, broadcasts_offset};
use tourbillon_shared::mailbox::MailboxState;
use tourbillon_shared::outbox::OutboxState;
use tourbillon_shared::partition::even_table;
use tourbillon_shared::position::RingShape;
use tourbillon_shared::telemetry::{TELEMETRY_MAGIC, TelemetryHost};

use crate::backend::Machine;
use crate::control::Control;
use crate::error::EngineError;
use crate::lane::Lane;
use crate::memory::{arguments_offset, device_bytes, lanes_offset};
use crate::telemetry::{OwnPage, unix_ns};

/// Time between two beats of the kernel: a command is seen within it, and half of it passes between two looks at the control
/// block over the bus.
const BEAT_NS: u32 = 50_000;
/// Time between two refreshes of the telemetry page's counters: summing them takes a full chip some 100 us.
const REFRESH_NS: u32 = 5_000_000;
/// Device addresses of host memory.
struct Mapped {
    control: u64,
    telemetry: u64,
    lanes: Vec<LaneAddresses>,
}

fn lane_addresses(machine: &mut dyn Machine, lane: &Lane) -> Result<LaneAddresses, EngineError> {
    let start = machine.map_host(lane.mapping())?;
    Ok(LaneAddresses {
        requests: start + lane.constants().request_offset,
        replies: start + lane.constants().reply_offset,
        capacity_log2: lane.constants().capacity_log2,
        arena_bytes: lane.arena_bytes(),
        reserved: [0; 2],
    })
}

/// Allocates device memory, maps host memory for the device and writes what the kernel finds at its first launch; returns the
/// address of the device memory.
pub(crate) fn prepare(
    machine: &mut dyn Machine,
    geometry: &Geometry,
    control: &Control,
    page: &OwnPage,
    lanes: &[Lane],
    first_position: u64,
) -> Result<u64, EngineError> {
    let memory = machine.allocate(device_bytes(geometry))?;
    let mapped = Mapped {
        control: machine.map_host(control.mapping())?,
        telemetry: machine.map_host(page.mapping())?,
        lanes: lanes.iter().map(|lane| lane_addresses(&mut *machine, lane)).collect::<Result<_, _>>()?,
    };
    fill(machine, geometry, memory, &mapped, first_position)?;
    let outboxes: Vec<OutboxState> = lanes.iter().filter_map(Lane::new_outbox).collect();
    machine.write(DeviceLayout::new(geometry).outboxes, bytemuck::cast_slice(&outboxes))?;
    let dead_letters = DeadLetterState::new(geometry.dead_letters_log2);
    machine.write(DeviceLayout::new(geometry).dead_letters, bytemuck::cast_slice(&[dead_letters]))?;
    if geometry.mailbox_log2 != 0 {
        let overflow = RingShape::from_log2(geometry.overflow_log2);
        let mailboxes = vec![MailboxState::new(geometry.mailbox_shape(), overflow); geometry.shards as usize];
        let layout = DeviceLayout::new(geometry);
        machine.write(layout.mailboxes, bytemuck::cast_slice(&mailboxes))?;
        let broadcasts = Broadcasts::new(geometry.mailbox_shape());
        machine.write(broadcasts_offset(&layout, geometry), bytemuck::cast_slice(&[broadcasts]))?;
    }
    Ok(memory)
}

/// Writes what the kernel finds in device memory at its first launch; the rest is zero.
fn fill(
    machine: &mut dyn Machine,
    geometry: &Geometry,
    memory: u64,
    mapped: &Mapped,
    first_position: u64,
) -> Result<(), EngineError> {
    let layout = DeviceLayout::new(geometry);
    let table = even_table(geometry.shards);
    // By words of eight bytes, little-endian as every supported device is.
    let table: Vec<u64> =
        table.chunks_exact(4).map(|part| part.iter().rev().fold(0, |w, s| w << 16 | u64::from(*s))).collect();
    machine.write(layout.table, &table)?;
    machine.write(layout.lane_heads, &vec![first_position; geometry.lanes as usize])?;
    let arguments = KernelArguments {
        abi_hash: abi::HASH,
        control: mapped.control,
        telemetry: mapped.telemetry,
        lanes: memory + lanes_offset(geometry),
        memory,
        layout,
        geometry: *geometry,
        refresh_ns: REFRESH_NS,
        beat_ns: BEAT_NS,
        reserved: [0; 2],
    };
    machine.write(lanes_offset(geometry), bytemuck::cast_slice(&mapped.lanes))?;
    machine.write(arguments_offset(geometry), bytemuck::cast_slice(&[arguments]))
}

/// What the telemetry page says of the host's side.
pub(crate) fn host_telemetry(machine: &dyn Machine, geometry: &Geometry) -> TelemetryHost {
    let mut device_name = [0; 48];
    let name = machine.device_name();
    let mut end = name.len().min(device_name.len());
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    device_name[..end].copy_from_slice(&name.as_bytes()[..end]);
    TelemetryHost {
        magic: TELEMETRY_MAGIC,
        abi_hash: abi::HASH,
        process: std::process::id(),
        backend: machine.kind().code(),
        started_unix_ns: unix_ns(),
        mode_commanded: Mode::Resident as u32,
        warps: geometry.blocks * geometry.warps_per_block,
        shards: geometry.shards,
        lanes: geometry.lanes,
        device_name,
        ..TelemetryHost::zeroed()
    }
}
