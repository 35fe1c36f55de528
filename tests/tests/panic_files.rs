//! The error of a panic names the file: that of a shipped actor, of a user's, of the library, and no wrong one.

use tourbillon::abi::error::file_hash;
use tourbillon::actors::faulty::{Fault, Trigger};
use tourbillon::{CallError, PtxText};
use tourbillon_tests::bench::client;
use tourbillon_tests::{on_backends, on_every_backend};

#[path = "panic_files/handlers.rs"]
mod handlers;
use handlers::{Slip, Users};

on_every_backend! {
    /// The shipped texts bring the names of the shipped actors' files, and so does a panic on the host.
    fn a_panic_of_a_shipped_actor_names_its_file(bench: &Bench) {
        let engine = bench.engine();
        let mut client = client(&engine);
        for fault in [Fault::Index, Fault::Divide, Fault::Overflow, Fault::Panic] {
            let error = client.call(7, Trigger { fault, argument: 0 }).unwrap_err();
            let text = error.to_string();
            let CallError::Panicked { file: Some(file), file_hash: hash, line, column, .. } = error else {
                panic!("{fault:?}: {text}");
            };
            assert!(file.ends_with("device/actors/src/faulty.rs"), "{fault:?}: {file}");
            assert_eq!(file_hash(&file), hash);
            assert!(text.contains(&format!("Faulty 7 panicked at {file}:{line}:{column};")), "{text}");
        }
    }
}

on_backends! {
    [native_1, native_3, simt_4, simt_32, simt_32_hostile]
    fn a_panic_of_a_users_actor_names_its_module_or_the_librarys(bench: &Bench) {
        let engine = bench.builder_for(Users::image()).build().unwrap();
        let mut client = client(&engine);
        let file_of = |error| match error {
            CallError::<tourbillon::NoError>::Panicked { file: Some(file), line: 1.., column: 1.., .. } => file,
            other => panic!("{other}"),
        };
        let own = file_of(client.call(1, Slip { whose: 0 }).unwrap_err());
        assert!(own.ends_with("tests/panic_files/handlers.rs"), "{own}");
        let library = file_of(client.call(1, Slip { whose: 1 }).unwrap_err());
        assert!(library.contains("core/src/iter/"), "{library}");
        assert_eq!(client.call(1, Slip { whose: 2 }), Ok(8));
    }
}

/// What a text of another build would bring.
const FILES: &[&str] = &["nowhere/else/is/this.rs", "nor/this.rs"];
const TEXTS: &[PtxText] = &[PtxText { compute_capability: 80, is_fresh: false, files: FILES, text: "" }];

/// An engine makes the names of all its texts known, whatever it runs on: what is read may come from another one.
#[test]
fn the_files_of_an_engines_texts_are_known() {
    let hashes = [file_hash(FILES[0]), file_hash(FILES[1]), file_hash("of/no/text.rs")];
    let known = || hashes.map(tourbillon::__device::panic_files::path_of);
    assert_eq!(known(), [None, None, None]);
    let image = tourbillon::shipped_image().with_ptx(TEXTS);
    let engine = tourbillon::Engine::builder_for(image).backend(tourbillon::Backend::Cpu).build().unwrap();
    assert_eq!(known(), [Some(FILES[0].into()), Some(FILES[1].into()), None]);
    drop(engine);
    assert_eq!(known()[0], Some(FILES[0].into()));
}
