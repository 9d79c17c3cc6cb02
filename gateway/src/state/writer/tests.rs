use super::*;
use crate::state::image::Key;
use std::path::Path;

fn writer(state_dir: &Path) -> Writer {
    let mut writer = Writer::new(
        Places::of(state_dir),
        Reader::InProcess,
        Arc::new(Shared::new()),
    );
    writer.take_over().unwrap();
    if writer.seal.is_some() {
        writer.open_tree().unwrap();
    }
    writer.shared.resume();
    writer
}

fn note(writer: &Writer, key: &str, payload: &str) {
    let change = (key.as_bytes().to_vec(), Some(payload.as_bytes().to_vec()));
    writer.shared.note(Changes::from([change]));
}

/// What the next process finds, and whether it found anything amiss.
fn found(state_dir: &Path) -> (Vec<(Key, Vec<u8>)>, bool) {
    let taken = recover::take(&Places::of(state_dir), &Reader::InProcess).unwrap();
    let image = taken.image.unwrap_or_default();
    let records = image.records();
    let records = records.map(|(key, payload)| (key.to_vec(), payload.to_vec()));
    (records.collect(), taken.put_away.is_some())
}

fn records(of: &[(&str, &str)]) -> Vec<(Key, Vec<u8>)> {
    let record = |(key, payload): &(&str, &str)| (key.as_bytes().into(), payload.as_bytes().into());
    of.iter().map(record).collect()
}

fn is_sealed(writer: &Writer) -> bool {
    let seal = Seal::read(&writer.places.directory).unwrap();
    matches!(seal, Some(Ok(Seal::Clean { .. })))
}

#[test]
fn what_was_noted_is_there_with_a_seal_and_without() {
    for ends_in_order in [true, false] {
        let directory = tempfile::tempdir().unwrap();
        let mut writer = writer(directory.path());
        for (key, payload) in [("a/1", "one"), ("a/2", "two"), ("a/1", "three")] {
            note(&writer, key, payload);
            writer.save().unwrap();
            assert!(!is_sealed(&writer));
        }
        assert_eq!(writer.shared.progress().borrow().saved, 3);
        if ends_in_order {
            writer.end();
        } else {
            drop(writer);
        }
        let expected = records(&[("a/1", "three"), ("a/2", "two")]);
        assert_eq!(found(directory.path()), (expected, false));
    }
}

#[test]
fn files_at_rest_are_sealed_and_unsealed_before_the_next_write() {
    let directory = tempfile::tempdir().unwrap();
    let mut writer = writer(directory.path());
    note(&writer, "a/1", "one");
    writer.save().unwrap();
    writer.look_after_seal().unwrap();
    assert!(!is_sealed(&writer), "they have just been written to");
    writer.unsealed = writer
        .unsealed
        .map(|(first, latest)| (first - QUIET, latest - QUIET));
    writer.look_after_seal().unwrap();
    assert!(is_sealed(&writer));
    note(&writer, "a/1", "two");
    writer.save().unwrap();
    assert!(!is_sealed(&writer));
    let (first, latest) = writer.unsealed.unwrap();
    writer.unsealed = Some((first - SEAL_INTERVAL, latest));
    writer.look_after_seal().unwrap();
    assert!(is_sealed(&writer), "although they are not at rest");
}

#[test]
fn files_that_change_under_their_seal_are_sealed_again() {
    let directory = tempfile::tempdir().unwrap();
    let mut writer = writer(directory.path());
    note(&writer, "a/1", "one");
    writer.save().unwrap();
    writer.put_seal_on().unwrap();
    let before = writer.seal.clone();
    // As a thread of the database might, that comes late.
    fs::write(writer.places.database().join("snap.0.generating"), "x").unwrap();
    let second_look = writer.second_look.take();
    writer.second_look = second_look.map(|(stamp, at)| (stamp, at - SECOND_LOOK));
    writer.look_after_seal().unwrap();
    assert_ne!(writer.seal, before);
    drop(writer);
    assert_eq!(found(directory.path()), (records(&[("a/1", "one")]), false));
}

#[test]
fn after_an_error_of_the_disk_all_is_written_anew_in_place_of_the_old() {
    let directory = tempfile::tempdir().unwrap();
    let mut writer = writer(directory.path());
    note(&writer, "a/1", "one");
    writer.save().unwrap();
    note(&writer, "a/2", "two");
    let full = io::Error::from(io::ErrorKind::StorageFull);
    writer.overcome(Err(full.into()));
    assert!(writer.tree.is_none());
    assert!(writer.shared.progress().borrow().unable.is_some());
    writer.save().unwrap();
    assert!(writer.shared.progress().borrow().unable.is_none());
    assert!(!writer.places.next_database().exists());
    let reports = writer.shared.take_reports();
    assert!(matches!(reports[..], [Report::Unable(_), Report::Able]));
    drop(writer);
    let expected = records(&[("a/1", "one"), ("a/2", "two")]);
    assert_eq!(found(directory.path()), (expected, false));
}

#[test]
fn what_fails_while_it_is_used_is_put_away_and_made_anew() {
    let directory = tempfile::tempdir().unwrap();
    let mut writer = writer(directory.path());
    note(&writer, "a/1", "one");
    writer.save().unwrap();
    for damage in [Damage::Panicked, Damage::Database] {
        writer.overcome(Err(damage.into()));
        assert!(!writer.places.directory.exists());
        assert_eq!(
            writer.shared.progress().borrow().saved,
            0,
            "nothing is on the disk"
        );
        writer.save().unwrap();
        let reports = writer.shared.take_reports();
        let [Report::PutAway(put_away), Report::Able] = &reports[..] else {
            panic!("one report");
        };
        assert_eq!(put_away.damage, damage);
        assert!(put_away.path.join("db").is_dir());
    }
    writer.end();
    assert_eq!(found(directory.path()), (records(&[("a/1", "one")]), false));
}

#[test]
fn what_was_noted_before_it_was_known_what_is_there_does_not_replace_it() {
    let directory = tempfile::tempdir().unwrap();
    let mut first = writer(directory.path());
    note(&first, "a/1", "drained");
    first.save().unwrap();
    first.end();

    let mut second = Writer::new(
        Places::of(directory.path()),
        Reader::InProcess,
        Arc::new(Shared::new()),
    );
    note(&second, "a/1", "well");
    second.save().unwrap();
    assert!(!second.shared.progress().borrow().is_begun);
    assert_eq!(second.shared.progress().borrow().saved, 0);
    second.shared.resume();
    note(&second, "a/2", "limited");
    second.save().unwrap();
    assert!(second.shared.progress().borrow().is_begun);
    drop(second);
    let expected = records(&[("a/1", "drained"), ("a/2", "limited")]);
    assert_eq!(found(directory.path()), (expected, false));
}

#[test]
fn why_nothing_is_saved_is_said_with_the_directory_and_what_helps() {
    let places = Places::of(Path::new("/somewhere/kept"));
    let io = |kind: io::ErrorKind| Problem::Io(kind.into());
    for (problem, said) in [
        (Problem::Busy, "a `node.state_dir` of its own"),
        (
            io(io::ErrorKind::PermissionDenied),
            "it must belong to user",
        ),
        (io(io::ErrorKind::StorageFull), ": 4 MiB must be free"),
        (io(io::ErrorKind::ReadOnlyFilesystem), "cannot be written: "),
    ] {
        let why = places.explain(&problem);
        assert!(why.contains("/somewhere/kept"), "{why}");
        assert!(why.contains(said), "{why}");
    }
}

#[test]
fn a_database_that_cannot_be_made_is_no_reason_to_put_anything_away() {
    let directory = tempfile::tempdir().unwrap();
    let mut writer = writer(directory.path());
    note(&writer, "a/1", "one");
    let in_the_way = writer.places.next_database();
    fs::create_dir_all(&writer.places.directory).unwrap();
    fs::write(&in_the_way, "a file where a directory is to be").unwrap();
    for _ in 0..3 {
        let saved = writer.save();
        assert!(matches!(saved, Err(Problem::Unmade(_))), "{saved:?}");
        writer.overcome(saved);
    }
    let entries = fs::read_dir(directory.path()).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    assert!(!names.into_iter().any(|name| name.contains("quarantine")));
    assert!(writer.shared.progress().borrow().unable.is_some());
    fs::remove_file(in_the_way).unwrap();
    writer.save().unwrap();
    drop(writer);
    assert_eq!(found(directory.path()), (records(&[("a/1", "one")]), false));
}
