//! What the suites of host actors share: archives that keep values in a map.

use std::collections::HashMap;
use std::time::Duration;

use tourbillon::{ActorRef, CallError, Client, Engine, EngineBuilder, HostActorsBuilder, HostAskError, HostContext};
use tourbillon_archive::{
    Archive, Attest, Clerk, Credit, Errand, Keep, Load, Missing, Notary, RECORD_WORDS, Record, Show,
};

use crate::Bench;
use crate::bench::eventually;

/// How long a question of a host actor waits in these suites.
pub const ASK_TIME: Duration = Duration::from_secs(10);

/// What an archive is told to do by [`Errand::what`].
pub mod errand {
    /// Ask the clerk `with` for a credit of 1; the reply is its number.
    pub const ASK_CLERK: u64 = 1;
    /// Tell the clerk `with` credits 1 to 3.
    pub const TELL_CLERK: u64 = 2;
    /// Ask the archive `with` to keep a value under its own key.
    pub const ASK_ARCHIVE: u64 = 3;
    /// Panic.
    pub const PANIC: u64 = 4;
    /// Ask the notary `with`, which another archive's thread may run.
    pub const ASK_NOTARY: u64 = 5;
    /// Begin anew after this.
    pub const RETIRE: u64 = 6;
    /// Ask itself.
    pub const ASK_ITSELF: u64 = 7;
    /// Sleep for so many milliseconds.
    pub const SLEEP_MS: u64 = 8;
}

/// What replies say that no errand's result is.
pub const WENT_WRONG: u64 = u64::MAX;

/// An archive's state.
pub type Values = HashMap<u64, u64>;

/// A builder for an engine with archives.
pub fn builder(bench: &Bench) -> EngineBuilder {
    bench.builder_for(tourbillon_archive::image()).actors_per_shard(1024).lanes(16)
}

/// The archive with this key.
pub fn archive(key: u64) -> ActorRef<Archive> {
    ActorRef::new(key)
}

fn run(errand: &Errand, context: &mut HostContext<'_>) -> Result<u64, Missing> {
    let with = errand.with;
    Ok(match errand.what {
        errand::ASK_CLERK => context.ask(with, Credit(1)).unwrap_or(WENT_WRONG),
        errand::TELL_CLERK => (1..=3).map(|credit| u64::from(context.tell(with, Credit(credit)).is_ok())).sum(),
        errand::ASK_ARCHIVE => {
            let id = context.key().number();
            context.ask(with, Keep { id, value: 1 }).unwrap_or(WENT_WRONG)
        }
        errand::PANIC => panic!("the archive was told to panic"),
        errand::ASK_NOTARY => match context.ask(with, Attest(with)) {
            Ok(word) => word,
            Err(HostAskError::Call(CallError::HostAbsent)) => 404,
            Err(_) => WENT_WRONG,
        },
        errand::RETIRE => {
            context.retire();
            0
        }
        errand::ASK_ITSELF => {
            let key = context.key();
            match context.ask(key, Keep { id: 0, value: 0 }) {
                Err(HostAskError::Itself) => 1,
                _ => WENT_WRONG,
            }
        }
        errand::SLEEP_MS => {
            std::thread::sleep(Duration::from_millis(with));
            with
        }
        _ => return Err(Missing { id: errand.what }),
    })
}

/// Serves archives, and nothing else yet.
pub fn archives(engine: &Engine) -> HostActorsBuilder {
    let hosts = engine.host_actors().ask_time(ASK_TIME);
    hosts.serve::<Archive, Values>(
        |_key| Values::new(),
        |archive| {
            archive
                .on(|values: &mut Values, keep: &Keep, _: &mut HostContext<'_>| {
                    values.insert(keep.id, keep.value);
                    Ok(values.len() as u64)
                })
                .on(|values: &mut Values, load: &Load, _: &mut HostContext<'_>| {
                    let value = values.get(&load.id).ok_or(Missing { id: load.id })?;
                    Ok(Record { id: load.id, words: [*value; RECORD_WORDS] })
                })
                .on(|_: &mut Values, errand: &Errand, context: &mut HostContext<'_>| run(errand, context));
        },
    )
}

/// Serves archives and notaries, which attest by the word plus one.
pub fn all(engine: &Engine) -> HostActorsBuilder {
    archives(engine).serve::<Notary, ()>(
        |_key| (),
        |notary| {
            notary.on(|_: &mut (), attest: &Attest, _: &mut HostContext<'_>| Ok(attest.0 + 1));
        },
    )
}

/// How the clerk stands when it has so many answers.
///
/// # Panics
/// When they do not come.
pub fn answered(client: &mut Client, clerk: u64, answers: u64) -> Clerk {
    let mut stands = None;
    eventually("answers come", || {
        let now = client.call(clerk, Show {}).expect("a clerk");
        stands = Some(now);
        now.answers >= answers
    });
    stands.expect("it was asked")
}
