//! What handles the messages of a kind.

use std::any::Any;
use std::collections::HashMap;
use std::fmt;
use std::marker::PhantomData;

use tourbillon_device::{ErrorOf, Handler, HostActor, Message, Plain, ReplyOf};
use tourbillon_shared::error::FailureCode;

use super::context::HostContext;
use crate::keys::Key;

/// How a handler ended: 0 or a failure code, and the bytes of the reply or the typed error.
pub(super) struct Ended {
    pub(super) code: u32,
    pub(super) bytes: Vec<u8>,
}

impl Ended {
    /// With a failure that no handler returned.
    pub(super) fn failed(code: FailureCode) -> Self {
        Self { code: code as u32, bytes: Vec::new() }
    }
}

/// A state, whatever its type.
pub(super) type AnyState = Box<dyn Any + Send>;
type Begin = Box<dyn Fn(Key) -> AnyState + Send + Sync>;
type Run = Box<dyn Fn(&mut AnyState, &[u8], &mut HostContext<'_>) -> Ended + Send + Sync>;

/// A kind that is served.
pub(super) struct ServedKind {
    pub(super) name: &'static str,
    pub(super) begin: Begin,
    pub(super) handlers: HashMap<u8, Run>,
}

impl fmt::Debug for ServedKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServedKind").field("name", &self.name).field("handlers", &self.handlers.len()).finish()
    }
}

/// The handlers of a kind `A` whose actors have states `S`; see [`HostActorsBuilder::serve`](super::HostActorsBuilder::serve).
pub struct HostHandlers<A, S> {
    kind: ServedKind,
    types: PhantomData<fn(A, S)>,
}

impl<A: HostActor, S> fmt::Debug for HostHandlers<A, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.kind.fmt(f)
    }
}

impl<A: HostActor, S: Send + 'static> HostHandlers<A, S> {
    pub(super) fn new(begin: impl Fn(Key) -> S + Send + Sync + 'static) -> Self {
        let begin: Begin = Box::new(move |key| Box::new(begin(key)));
        Self { kind: ServedKind { name: A::NAME, begin, handlers: HashMap::new() }, types: PhantomData }
    }

    /// Has `handler` handle the message `M`, in place of an earlier one. A message without a handler is answered with `UnknownMessage`.
    ///
    /// A handler that returns an error or panics changes what it has changed: there is no copy of the state. After a panic the actor begins
    /// anew, with a state that is made for it.
    pub fn on<M: Message<Actor = A>>(
        &mut self,
        handler: impl Fn(&mut S, &M, &mut HostContext<'_>) -> Result<ReplyOf<M>, ErrorOf<M>> + Send + Sync + 'static,
    ) -> &mut Self
    where
        A: Handler<M>,
    {
        let run: Run = Box::new(move |state, bytes, context| {
            let (Some(state), Some(message)) = (state.downcast_mut::<S>(), M::from_bytes(bytes)) else {
                return Ended::failed(FailureCode::InvalidPayload);
            };
            match handler(state, &message, context) {
                Ok(reply) => Ended { code: 0, bytes: reply.as_bytes().to_vec() },
                Err(error) => Ended { code: FailureCode::Handler as u32, bytes: error.as_bytes().to_vec() },
            }
        });
        self.kind.handlers.insert(M::NUMBER, run);
        self
    }

    pub(super) fn into_kind(self) -> ServedKind {
        self.kind
    }
}
