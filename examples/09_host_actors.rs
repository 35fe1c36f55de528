//! An actor that lives on the host, asked by one of the device: `cargo run -p tourbillon-archive --example 09_host_actors`.

use std::collections::HashMap;

use tourbillon::{ActorRef, Engine, HostContext};
use tourbillon_archive::{Archive, Credit, Errand, Fetch, Keep, Load, Missing, Note, Pass, RECORD_WORDS, Record, Show};

type Values = HashMap<u64, u64>;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let engine = Engine::builder_for(tourbillon_archive::image()).build()?;
    // A file, a database or a service could stand here in place of a map: each key has one of its own.
    let hosts = engine.host_actors().serve::<Archive, Values>(
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
                // An actor of the host asks one of the device.
                .on(|_: &mut Values, errand: &Errand, context: &mut HostContext<'_>| {
                    Ok(context.ask(errand.with, Credit(1)).unwrap_or(0))
                });
        },
    );
    let hosts = hosts.start()?;
    let (mut client, archive) = (engine.client()?, ActorRef::<Archive>::new(1));
    // The clerk tells the archive, then asks it; a client does as well, without one.
    client.call(7, Note { archive, keep: Keep { id: 5, value: 42 } })?;
    client.call(7, Fetch { archive, id: 5, within_us: 0 })?;
    while client.call(7, Show {})?.answers == 0 {}
    println!("the clerk has got {}", client.call(7, Show {})?.last);
    println!("the archive answers {}", client.call(7, Pass { archive, id: 5 })?.words[0]);
    println!("and keeps {} values", client.call(1, Keep { id: 6, value: 43 })?);
    println!("nothing there: {}", client.call(1, Load { id: 7 }).unwrap_err());
    println!("the clerk has {} credit", client.call(1, Errand { what: 0, with: 7 })?);
    println!("{:?}", hosts.counts());
    Ok(())
}
