//! Each handler as a kernel of its own, for a build to find out what it takes; never part of an engine.
//!
//! A kernel's registers, and its stack, are the most that anything in it needs, and the assembler tells them for the whole. So a build
//! script has each handler assembled by itself as well: a function that loads the state, the message and what the handler may ask of
//! its context, runs the handler, and stores the answer, as the engine does around it. Beside them stands the engine around an actor
//! that does nothing, so that what is the engine's can be told from what is the handlers'.

use tourbillon_shared::outbox::Mail;
use tourbillon_shared::pool::LanePool;

use crate::actor::{Handler, Message};
use crate::context::{Context, Declared};
use crate::large::Large;
use crate::system::System;
use crate::{NoError, Plain, State};

/// A handler as a build knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HandlerName {
    /// Name of the message's type.
    pub message: &'static str,
    /// Whether it is a function of its own in the engine.
    pub is_outlined: bool,
}

/// What a handler works on. Every word comes from memory, so that nothing is known when it is compiled.
#[repr(C)]
#[derive(Debug)]
pub struct Probe {
    state: *mut u8,
    message: *const u8,
    reply: *mut u8,
    error: *mut u8,
    key: u64,
    hlc: u64,
    version: u64,
    large: *mut Large,
    mail: *const Mail,
    pool: *mut LanePool,
    lane: u32,
    /// Notices posted, and whether too large a reply was asked for.
    after: [u32; 2],
}

/// A value aligned like a message and a state in the engine.
#[repr(C, align(16))]
struct Aligned<T>(T);

impl Probe {
    /// Runs the handler of message `M`.
    ///
    /// # Safety
    /// All pointers lead to what the handler's types say, aligned to 16 bytes, and nobody else accesses it meanwhile; `large`, `mail` and
    /// `pool` may be null.
    #[inline(always)]
    pub unsafe fn run<M: Message>(&mut self) {
        let mut context = Context {
            hlc: self.hlc,
            version: self.version,
            large: self.large,
            mail: self.mail,
            lane: self.lane,
            pool: self.pool,
            declared: Declared::Blocks,
            ..Context::of(self.key)
        };
        // SAFETY: the caller vouches for the pointers.
        unsafe {
            let state = self.state.cast::<Aligned<M::Actor>>();
            let mut copy = (*state).0;
            let message = (*self.message.cast::<Aligned<M>>()).0;
            match copy.handle(&message, &mut context) {
                Ok(reply) => {
                    (*state).0 = copy;
                    *self.reply.cast() = Aligned(reply);
                }
                Err(error) => *self.error.cast() = Aligned(error),
            }
        }
        self.after = [context.posted, context.is_over.into()];
    }
}

/// Bytes of the list of a system's handlers.
pub const fn list_bytes<S: System>() -> usize {
    list::<S>(&mut [])
}

/// The list of a system's handlers in their order, a line each: actor, message, and `+` for a function of its own or `-`.
pub const fn list_of<S: System, const BYTES: usize>() -> [u8; BYTES] {
    let mut bytes = [0; BYTES];
    list::<S>(&mut bytes);
    bytes
}

/// Writes the list as far as there is room; how long it is.
const fn list<S: System>(into: &mut [u8]) -> usize {
    let (mut at, mut actor) = (0, 0);
    while actor < S::HANDLERS.len() {
        let (name, messages) = S::HANDLERS[actor];
        let mut message = 0;
        while message < messages.len() {
            let handler = messages[message];
            at = put(into, at, name);
            at = put(into, at, " ");
            at = put(into, at, handler.message);
            at = put(into, at, if handler.is_outlined { " +\n" } else { " -\n" });
            message += 1;
        }
        actor += 1;
    }
    at
}

const fn put(into: &mut [u8], at: usize, text: &str) -> usize {
    let mut i = 0;
    while i < text.len() {
        if at + i < into.len() {
            into[at + i] = text.as_bytes()[i];
        }
        i += 1;
    }
    at + text.len()
}

/// A state of an actor that does nothing.
#[repr(C)]
#[derive(Clone, Copy, Debug, State)]
pub struct Idle {
    nothing: u64,
}

/// What it gets.
#[repr(C)]
#[derive(Clone, Copy, Debug, Plain)]
pub struct Nothing {}

impl Handler<Nothing> for Idle {
    type Reply = ();

    #[inline]
    fn handle(&mut self, _message: &Nothing, _context: &mut Context) -> Result<(), NoError> {
        Ok(())
    }
}

crate::actor!(Idle { kind: 1, error: NoError, messages: { 0: Nothing } });
crate::system! {
    /// The engine by itself.
    pub struct Bare = [Idle];
}

/// Emits the list of a system's handlers, and the engine by itself, in the crate that a build writes to find out what handlers take.
#[cfg(target_arch = "nvptx64")]
#[doc(hidden)]
#[macro_export]
macro_rules! handler_probes {
    ($system:ty) => {
        $crate::kernel_entry!($crate::probe::Bare);

        /// The list.
        #[used]
        #[unsafe(no_mangle)]
        pub static TOURBILLON_HANDLERS: [u8; $crate::probe::list_bytes::<$system>()] =
            $crate::probe::list_of::<$system, { $crate::probe::list_bytes::<$system>() }>();
    };
}

/// Emits a handler as a kernel of its own: the one at this place of the list.
#[cfg(target_arch = "nvptx64")]
#[doc(hidden)]
#[macro_export]
macro_rules! handler_probe {
    ($system:ty, $index:literal, $name:ident) => {
        /// A handler.
        ///
        /// # Safety
        /// As for [`run`]($crate::probe::Probe::run).
        #[unsafe(no_mangle)]
        pub unsafe extern "ptx-kernel" fn $name(probe: *mut $crate::probe::Probe) {
            // SAFETY: the caller vouches for it; it is never launched.
            unsafe { <$system as $crate::System>::probe($index, &mut *probe) }
        }
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[repr(C)]
    #[derive(Clone, Copy, Debug, PartialEq, State)]
    struct Tally {
        sum: u64,
    }

    #[repr(C)]
    #[derive(Clone, Copy, Debug, Plain)]
    struct Add(u32);

    #[repr(C)]
    #[derive(Clone, Copy, Debug, Plain)]
    struct Refuse(u64);

    impl Handler<Add> for Tally {
        type Reply = [u64; 2];

        fn handle(&mut self, message: &Add, context: &mut Context) -> Result<[u64; 2], u64> {
            self.sum += u64::from(message.0);
            Ok([self.sum, context.key()])
        }
    }

    impl Handler<Refuse> for Tally {
        type Reply = u64;

        fn handle(&mut self, message: &Refuse, _context: &mut Context) -> Result<u64, u64> {
            self.sum = 0;
            Err(message.0)
        }
    }

    crate::actor!(Tally { kind: 9, error: u64, messages: { 4: Add, #[outlined] 2: Refuse } });
    crate::system! { pub struct Both = [Idle, Tally]; }

    #[test]
    fn handlers_are_listed_in_their_order() {
        const LIST: [u8; list_bytes::<Both>()] = list_of::<Both, { list_bytes::<Both>() }>();
        assert_eq!(Both::image().kinds.len(), 2);
        assert_eq!(core::str::from_utf8(&LIST), Ok("Idle Nothing -\nTally Add -\nTally Refuse +\n"));
    }

    #[test]
    fn a_probe_runs_the_handler_of_its_place() {
        let mut state = Aligned(Tally { sum: 5 });
        let (add, refuse) = (Aligned(Add(2)), Aligned(Refuse(77)));
        let (mut reply, mut error) = (Aligned([0u64; 2]), Aligned(0u64));
        let mut probe = Probe {
            state: (&raw mut state).cast(),
            message: (&raw const add).cast(),
            reply: (&raw mut reply).cast(),
            error: (&raw mut error).cast(),
            key: 3,
            hlc: 0,
            version: 0,
            large: core::ptr::null_mut(),
            mail: core::ptr::null(),
            pool: core::ptr::null_mut(),
            lane: 0,
            after: [9; 2],
        };
        // SAFETY: the pointers lead to what the handler of this place works on.
        unsafe { Both::probe(1, &mut probe) };
        assert_eq!((state.0, reply.0, error.0, probe.after), (Tally { sum: 7 }, [7, 3], 0, [0; 2]));
        probe.message = (&raw const refuse).cast();
        // SAFETY: as above.
        unsafe { Both::probe(2, &mut probe) };
        assert_eq!((state.0, reply.0, error.0), (Tally { sum: 7 }, [7, 3], 77));
        // SAFETY: there is no handler of this place.
        unsafe { Both::probe(3, &mut probe) };
        assert_eq!((state.0, reply.0, error.0), (Tally { sum: 7 }, [7, 3], 77));
    }
}
