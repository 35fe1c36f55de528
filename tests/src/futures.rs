//! Futures in tests: polled by hand, or run by a runtime that ends.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tourbillon::{Engine, Gateway, GatewayUsage};

use crate::Bench;
use crate::bench::{REPLY_TIME_MAX, eventually};

/// A gateway with one lane of 16 slots to an engine that is paused.
///
/// # Panics
/// When there is none.
pub fn paused(bench: &Bench, staging: u32) -> (Engine, Gateway) {
    let engine = bench.builder().ring_capacity(16).build().expect("the engine is built");
    engine.pause().expect("the engine pauses");
    let gateway = Gateway::builder(&engine).lanes(1).staging(staging).build().expect("a gateway");
    (engine, gateway)
}

/// Polls once, without anybody to wake.
pub fn poll_once<F: Future + Unpin>(future: &mut F) -> Poll<F::Output> {
    Pin::new(future).poll(&mut Context::from_waker(Waker::noop()))
}

/// Polls until it is ready, without anybody to wake.
///
/// # Panics
/// After [`REPLY_TIME_MAX`].
pub fn poll_until_ready<F: Future + Unpin>(future: &mut F) -> F::Output {
    let mut output = None;
    eventually("a future is ready", || match poll_once(future) {
        Poll::Ready(ready) => {
            output = Some(ready);
            true
        }
        Poll::Pending => false,
    });
    output.expect("it is ready")
}

/// Polls once within a task, and goes on whatever comes of it.
pub async fn touch<F: Future + Unpin>(future: &mut F) -> Option<F::Output> {
    poll_fn(|context| match Pin::new(&mut *future).poll(context) {
        Poll::Ready(output) => Poll::Ready(Some(output)),
        Poll::Pending => Poll::Ready(None),
    })
    .await
}

/// Runs a future and the tasks that it spawns on this thread alone.
///
/// # Panics
/// When it does not end in time.
pub fn block_on<F: Future>(future: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    runtime.block_on(async { tokio::time::timeout(4 * REPLY_TIME_MAX, future).await.expect("it ends in time") })
}

/// Lets other tasks and threads run for a moment.
pub async fn a_moment() {
    tokio::time::sleep(Duration::from_millis(1)).await;
}

/// Waits until every reply has come, and checks that nothing was lost on the way: no slot, no place, no block, no message.
///
/// # Panics
/// When something was.
pub fn assert_nothing_is_lost(gateway: &Gateway) {
    // A block that was given up while it was copied comes back when that has ended.
    eventually("every reply comes", || gateway.usage().in_flight == 0 && gateway.usage().copying == 0);
    let usage = gateway.usage();
    let idle = GatewayUsage {
        pooled: usage.pooled,
        free_slots: usage.slots,
        slots: usage.slots,
        arena_free: usage.arena_bytes,
        arena_bytes: usage.arena_bytes,
        ..Default::default()
    };
    assert_eq!(usage, idle);
    let counts = gateway.counts();
    let ended = counts.answered + counts.tells_done + counts.tells_failed + counts.late + counts.stopped;
    assert_eq!(counts.sent, ended, "{counts:?}");
    assert_eq!(counts.late, counts.abandoned, "{counts:?}");
    let staging = counts.staging;
    let left = staging.published + staging.dropped_oldest + staging.timeouts + staging.withdrawn + staging.ended;
    assert_eq!(staging.queued, left, "{staging:?}");
}
