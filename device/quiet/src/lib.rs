//! The ring kernel of a system whose handlers never panic.
//!
//! Handlers are compiled into the engine's loops, where nobody can tell their panics from the engine's own. Here none of them has
//! any: `cargo xtask ptx --check` compiles this module and accepts no panic in its text. It is never run.

#![no_std]
#![feature(abi_ptx, stdarch_nvptx, asm_experimental_arch, link_llvm_intrinsics)]
#![allow(internal_features)]

use tourbillon_device::{BlockRef, Context, Handler, NoError, Plain, PoolMap, PoolSet, PoolVec, State, actor};

/// An actor that does everything that can be done with collections and published blocks.
#[repr(C)]
#[derive(Clone, Copy, Debug, State)]
pub struct Shelf {
    row: PoolVec<[u8; 3]>,
    map: PoolMap<u32, u64>,
    set: PoolSet<u64>,
    block: BlockRef<u32>,
}

/// Does everything.
#[repr(C)]
#[derive(Clone, Copy, Debug, Plain)]
pub struct Arrange {
    place: u32,
    word: u32,
}

impl Handler<Arrange> for Shelf {
    type Reply = u64;

    fn handle(&mut self, message: &Arrange, context: &mut Context) -> Result<u64, NoError> {
        let Arrange { place, word } = *message;
        let bytes = [word as u8, place as u8, 0];
        self.row.push(context, bytes)?;
        self.row.insert(context, place, bytes)?;
        self.row.swap_remove(context, word)?;
        if let Some(element) = self.row.get_mut(context, place)? {
            element[2] = 1;
        }
        self.row.pop(context)?;
        let point = self.row.partition_point(context, |element| element[0] < bytes[0])?;
        self.row.remove(context, point)?;
        self.map.insert(context, word, place.into())?;
        if let Some(value) = self.map.get_mut(context, &place)? {
            *value ^= 1;
        }
        self.map.remove(context, &place)?;
        self.set.insert(context, word.into())?;
        self.set.remove(context, &place.into())?;
        let mut sum = 0u64;
        for element in self.row.iter(context) {
            sum ^= u64::from(element?[1]);
        }
        for entry in self.map.iter(context) {
            sum ^= entry?.1;
        }
        if self.set.contains(context, &sum)? {
            self.row.truncate(context, place)?;
            self.map.clear(context)?;
            self.set.clear(context)?;
        }
        if let Ok(block) = self.block.read(context) {
            for word in block {
                sum ^= u64::from(*word);
            }
            sum ^= block.chunk(place).len() as u64;
        }
        self.block.replace(context, &[word, place])?;
        let mut other = BlockRef::publish_with(context, place, |context, index| {
            let element = self.row.get(context, index)?;
            Ok(element.map_or(0, |element| element[0]))
        })?;
        other.take_back(context)?;
        let _ = context.forgive();
        Ok(sum)
    }
}

actor!(Shelf { kind: 100, pools: true, blocks: true, error: NoError, messages: { #[outlined] 0: Arrange } });

tourbillon_device::system! {
    /// Actors without a panic.
    pub struct Quiet = [tourbillon_actors::Echo, tourbillon_actors::Counter, tourbillon_actors::Account, Shelf];
}

tourbillon_device::kernel_entry!(Quiet);
