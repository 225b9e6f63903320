//! Whatever a server does, a mount that does not come about leaves no mount, no loop device and
//! no process; it ends within its deadline with exit code 32 and one line.

mod support;

use std::process::Command;
use std::time::Duration;

use support::{Place, Said, USER, run};

/// How a server can misbehave, and what a person is told.
const CASES: [(&str, &str); 25] = [
    ("dies-at-once", "server"),
    ("dies-after-hello", "ended before"),
    ("dies-after-welcome", "server"),
    ("dies-after-mount", "ended before"),
    ("dies-after-init", "ended before"),
    ("silent-at-once", "does not answer"),
    ("silent-after-hello", "does not answer"),
    ("silent-after-welcome", "does not answer"),
    ("silent-after-mount", "does not answer"),
    ("silent-after-init", "does not answer"),
    ("wrong-magic", "not a fuse4fs program"),
    ("wrong-version", "speaks protocol 7"),
    ("welcome-out-of-order", "out of turn"),
    ("welcome-fds", "server"),
    ("welcome-trailing", "1 bytes after the end"),
    ("welcome-oversize", "too long"),
    ("welcome-nonsense", "nonsense"),
    ("verdict-out-of-order", "out of turn"),
    ("verdict-of-another", "out of turn"),
    ("verdict-fds", "server"),
    ("verdict-trailing", "1 bytes after the end"),
    ("verdict-oversize", "too long"),
    ("verdict-nonsense", "nonsense"),
    ("verdict-empty", "ended before"),
    ("floods", "floods"),
];

fn fails(place: &Place, options: &str, behaviour: &str, words: &str) {
    let said = place.mount(options);
    said.one_line(32, words);
    assert!(said.stderr.starts_with("mount.fuse4fs: "), "{behaviour}: {said:?}");
    assert!(said.took < Duration::from_secs(6), "{behaviour}: took {:?}", said.took);
}

#[test]
fn a_spawned_server_that_misbehaves_leaves_nothing() {
    std::thread::scope(|scope| {
        for (behaviour, words) in CASES {
            scope.spawn(move || {
                let mut place = Place::with_server(behaviour);
                fails(&place, &place.spawn(), behaviour, words);
                place.is_clean();
            });
        }
    });
}

#[test]
fn a_spawned_server_that_misbehaves_leaves_nothing_of_a_read_write_mount() {
    std::thread::scope(|scope| {
        for (behaviour, words) in CASES {
            scope.spawn(move || {
                let mut place = Place::with_server(behaviour);
                fails(&place, &place.spawn_rw(), behaviour, words);
                place.is_clean();
                assert!(std::fs::File::open(place.image()).unwrap().try_lock().is_ok());
            });
        }
    });
}

#[test]
fn a_server_of_systemds_that_misbehaves_leaves_nothing() {
    std::thread::scope(|scope| {
        for (behaviour, words) in CASES {
            scope.spawn(move || {
                let mut place = Place::with_server(behaviour);
                let options = place.systemd();
                fails(&place, &options, behaviour, words);
                if ["silent-at-once", "silent-after-hello"].contains(&behaviour) {
                    place.end_listener();
                }
                place.is_clean();
            });
        }
    });
}

#[test]
fn a_check_whose_server_misbehaves_has_no_verdict() {
    let cases = CASES.iter().filter(|(behaviour, _)| !behaviour.ends_with("-after-init"));
    std::thread::scope(|scope| {
        for (behaviour, words) in cases {
            scope.spawn(move || {
                let mut place = Place::with_server(behaviour);
                let said = check(&place);
                said.one_line(16, words);
                assert!(said.took < Duration::from_secs(6), "{behaviour}: took {:?}", said.took);
                place.is_clean();
            });
        }
    });
}

fn check(place: &Place) -> Said {
    run(Command::new(USER).arg("check").arg(place.image()).args(["-o", &place.spawn()]))
}

#[test]
fn a_check_is_told_in_our_words() {
    let mut place = Place::with_server("good");
    let said = check(&place);
    assert_eq!((said.code, said.stderr.as_str()), (Some(0), ""), "{said:?}");
    assert!(said.stdout.ends_with("It can be mounted read-write.\n"), "{said:?}");
    place.is_clean();
    let mut place = Place::with_server("refuses");
    check(&place).one_line(16, "the server says: no magic [31m here");
    place.is_clean();
}

#[test]
fn a_refusal_is_told_in_our_words_and_then_the_servers_made_harmless() {
    let mut place = Place::with_server("refuses");
    let said = place.mount(&place.spawn());
    said.one_line(32, "no ext2, ext3 or ext4 file system");
    assert!(said.stderr.contains("the server says: no magic [31m here"), "{said:?}");
    place.is_clean();
}

#[test]
fn progress_extends_the_deadline() {
    let mut place = Place::with_server("slow");
    let said = place.mount(&format!("{},server_timeout=1", place.spawn()));
    said.nothing();
    assert!(said.took > Duration::from_secs(3));
    place.unmount();
    place.is_clean();
}
